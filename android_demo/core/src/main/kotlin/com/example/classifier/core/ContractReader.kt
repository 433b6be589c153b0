package com.example.classifier.core

import java.security.MessageDigest
import java.util.Locale

private const val SCHEMA = 1
private const val LARGEST_SIDE = 4096
private const val HASH_SHOWN = 12

/** A JSON object whose keys are taken one by one, so that none is overlooked. */
private class Section(
    value: Json,
    private val where: String,
) {
    private val left: MutableMap<String, Json> =
        when (value) {
            is Json.Object -> value.fields.toMutableMap()
            else -> throw ContractException("$where is ${value.kind()}, not an object")
        }

    fun optional(key: String): Json? = left.remove(key)

    fun take(key: String): Json = optional(key) ?: throw ContractException("$where has no '$key'")

    fun wrong(
        key: String,
        value: Json,
        wanted: String,
    ): Nothing = throw ContractException("$where.$key is ${value.kind()}, not $wanted")

    fun text(
        key: String,
        default: String? = null,
    ): String {
        val value = if (default == null) take(key) else optional(key) ?: return default
        return (value as? Json.Text)?.value ?: wrong(key, value, "a text")
    }

    fun whole(key: String): Int {
        val value = take(key)
        return (value as? Json.Number)?.whole() ?: wrong(key, value, "a whole number")
    }

    fun list(key: String): List<Json> {
        val value = take(key)
        return (value as? Json.Array)?.items ?: wrong(key, value, "a list")
    }

    fun section(key: String): Section = Section(take(key), "$where.$key")

    /** One of a few words. */
    fun oneOf(
        key: String,
        allowed: List<String>,
        default: String? = allowed.first(),
    ): String {
        val found = text(key, default)
        if (found !in allowed) {
            throw ContractException("$where.$key is '$found'; known are ${allowed.joinToString()}")
        }
        return found
    }

    fun done() {
        if (left.isNotEmpty()) {
            val keys = left.keys.sorted().joinToString()
            throw ContractException("$where has the unknown key(s): $keys")
        }
    }
}

/** `contract.json` as models/contract.py writes and checks it. */
internal object ContractReader {
    fun read(json: String): Contract {
        val value =
            try {
                Json.parse(json.removePrefix("\uFEFF"))
            } catch (error: JsonException) {
                throw ContractException("the contract is not JSON: ${error.message}")
            }
        val root = Section(value, "contract")
        val schema = root.whole("schema")
        if (schema != SCHEMA) {
            throw ContractException("the contract has schema $schema, this app reads $SCHEMA")
        }
        checkNormalization(root.section("normalization"))
        val output = root.section("output")
        output.text("name", "")
        val contract =
            Contract(
                name = root.text("name", "classifier"),
                preprocessing = preprocessing(root.section("input")),
                activation = activation(output),
                notSureThreshold = threshold(output),
                labels = labels(root.list("labels")),
                labelHash = root.optional("label_hash")?.let { hashText(root, it) },
                thresholds = output.optional("thresholds")?.let { thresholds(output, it) },
            )
        output.done()
        root.text("architecture", "")
        root.done()
        checkThresholds(contract)
        checkHash(contract)
        return contract
    }

    private fun hashText(
        root: Section,
        value: Json,
    ): String = (value as? Json.Text)?.value ?: root.wrong("label_hash", value, "a text")

    private fun activation(output: Section): Activation {
        val words = Activation.entries.associateBy { it.name.lowercase(Locale.ROOT) }
        return words.getValue(output.oneOf("activation", words.keys.toList(), default = null))
    }

    private fun preprocessing(input: Section): Preprocessing {
        input.text("name", "")
        input.oneOf("layout", listOf("NHWC"))
        input.oneOf("dtype", listOf("uint8"))
        input.oneOf("color", listOf("RGB"))
        input.oneOf("interpolation", listOf("bilinear"))
        input.oneOf("crop", listOf("center"))
        val antialias = input.optional("antialias")
        if (antialias != null && antialias != Json.Bool(true)) {
            throw ContractException("contract.input.antialias is not true; nothing else is known")
        }
        // A network of one channel weighs red, green and blue itself: it is fed RGB all the same.
        val grayscale = input.optional("grayscale")
        if (grayscale != null && grayscale !is Json.Bool) {
            input.wrong("grayscale", grayscale, "true or false")
        }
        val rule =
            Preprocessing(
                height = side(input, "height"),
                width = side(input, "width"),
                resizeShorterSide = side(input, "resize_shorter_side"),
                applyExif = input.oneOf("exif", listOf("apply", "ignore")) == "apply",
            )
        input.done()
        if (rule.resizeShorterSide < maxOf(rule.height, rule.width)) {
            throw ContractException(
                "the shorter side is resized to ${rule.resizeShorterSide}, but the crop is " +
                    "${rule.height} x ${rule.width}",
            )
        }
        return rule
    }

    private fun side(
        input: Section,
        key: String,
    ): Int {
        val pixels = input.whole(key)
        if (pixels !in 1..LARGEST_SIDE) {
            throw ContractException("contract.input.$key is $pixels, not 1 to $LARGEST_SIDE pixels")
        }
        return pixels
    }

    /** It happens inside the model; here it has only to make sense. */
    private fun checkNormalization(section: Section) {
        for (key in listOf("mean", "std")) {
            val numbers = section.list(key).map { (it as? Json.Number)?.real() }
            val fits = numbers.all { it != null && (key == "mean" || it > 0) }
            if (numbers.size != CHANNELS || !fits) {
                throw ContractException("contract.normalization.$key is not three numbers that fit")
            }
        }
        section.text("where", "")
        section.done()
    }

    private fun threshold(output: Section): Double {
        val value = output.optional("not_sure_threshold") ?: return 0.5
        return probability(output, "not_sure_threshold", value)
    }

    private fun thresholds(
        output: Section,
        value: Json,
    ): List<Double> {
        val items = (value as? Json.Array)?.items ?: output.wrong("thresholds", value, "a list")
        return items.mapIndexed { index, item -> probability(output, "thresholds[$index]", item) }
    }

    private fun probability(
        output: Section,
        key: String,
        value: Json,
    ): Double {
        val found = (value as? Json.Number)?.real() ?: output.wrong(key, value, "a number")
        if (found < 0 || found > 1) {
            throw ContractException("output.$key is $found, not 0 to 1")
        }
        return found
    }

    private fun checkThresholds(contract: Contract) {
        val thresholds = contract.thresholds ?: return
        if (contract.activation != Activation.SIGMOID) {
            throw ContractException("output.thresholds are there, but the activation is no sigmoid")
        }
        if (thresholds.size != contract.labels.size) {
            throw ContractException(
                "output.thresholds has ${thresholds.size} number(s), there are " +
                    "${contract.labels.size} labels",
            )
        }
    }

    private fun labels(items: List<Json>): List<Label> {
        val labels = items.mapIndexed { index, item -> label(item, "labels[$index]") }
        if (labels.size < 2) {
            throw ContractException("the contract has ${labels.size} label(s), 2 are needed")
        }
        val twice = labels.groupBy { it.name }.values.firstOrNull { it.size > 1 }
        if (twice != null) {
            throw ContractException("the label '${twice.first().name}' is there twice")
        }
        return labels
    }

    private fun label(
        item: Json,
        where: String,
    ): Label {
        if (item is Json.Text) {
            return Label(checkedName(item.value, where), null, Venomous.UNKNOWN)
        }
        val section = Section(item, where)
        val scientific = section.optional("scientific_name")
        if (scientific != null && scientific !is Json.Null && scientific !is Json.Text) {
            section.wrong("scientific_name", scientific, "a text")
        }
        val venomous = section.text("venomous", "unknown")
        val label =
            Label(
                name = checkedName(section.text("name"), where),
                scientificName = (scientific as? Json.Text)?.value?.ifEmpty { null },
                venomous =
                    Venomous.entries.firstOrNull { venomousWord(it) == venomous }
                        ?: throw ContractException("$where.venomous is '$venomous'"),
            )
        section.done()
        return label
    }

    private fun checkedName(
        name: String,
        where: String,
    ): String {
        if (name.isBlank() || name.any { it in "\r\n\u0000" }) {
            throw ContractException("$where has no name on one line")
        }
        return name
    }

    private fun venomousWord(venomous: Venomous): String = venomous.name.lowercase(Locale.ROOT)

    private fun checkHash(contract: Contract) {
        val stated = contract.labelHash ?: return
        val made = labelHash(contract.labels)
        if (stated != made) {
            throw ContractException(
                "the contract's label_hash is ${stated.take(HASH_SHOWN)}..., its labels give " +
                    "${made.take(HASH_SHOWN)}...: the labels were changed by hand",
            )
        }
    }

    /** sha256 (hex) over the canonical JSON of the labels: keys sorted, no spaces, UTF-8. */
    fun labelHash(labels: List<Label>): String {
        val canonical =
            labels.joinToString(",", "[", "]") { label ->
                val scientific = label.scientificName?.let(Json::quoted) ?: "null"
                val venomous = Json.quoted(venomousWord(label.venomous))
                "{\"name\":${Json.quoted(label.name)},\"scientific_name\":$scientific," +
                    "\"venomous\":$venomous}"
            }
        val digest = MessageDigest.getInstance("SHA-256").digest(canonical.toByteArray())
        return digest.joinToString("") { "%02x".format(Locale.ROOT, it) }
    }
}
