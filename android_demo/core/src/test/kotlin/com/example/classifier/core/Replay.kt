package com.example.classifier.core

import java.io.DataInputStream
import java.io.DataOutputStream
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.Random
import javax.imageio.ImageIO

/**
 * Answers cases that another language wrote down, so that both can be compared byte for byte.
 *
 * The request is a sequence of cases: an operation's name, then its arguments. The reply has one
 * record a case: 0 and a block of bytes, or 1 and the exception's class and message.
 */
private class Replay(
    private val request: DataInputStream,
) {
    private fun block(): ByteArray = ByteArray(request.readInt()).also(request::readFully)

    private fun text(): String = block().toString(Charsets.UTF_8)

    private fun image(): RgbImage = RgbImage(request.readInt(), request.readInt(), block())

    private fun rule(): Preprocessing =
        Preprocessing(
            height = request.readInt(),
            width = request.readInt(),
            resizeShorterSide = request.readInt(),
            applyExif = true,
        )

    private fun model(): ByteBuffer = ByteBuffer.wrap(block())

    private fun classifier(): Classifier = Classifier(model(), text().ifEmpty { null })

    /** All arguments are read before anything is computed: a failing case leaves the next intact. */
    fun case(operation: String): () -> ByteArray =
        when (operation) {
            "resize" -> {
                val image = image()
                val width = request.readInt()
                val height = request.readInt()
                later { resize(image, width, height).bytes }
            }

            "square" -> {
                val image = image()
                val rule = rule()
                later { toSquare(image, rule).bytes }
            }

            "orient" -> {
                val image = image()
                val orientation = request.readInt()
                later { sized(image.oriented(orientation)) }
            }

            "argb" -> {
                val width = request.readInt()
                val height = request.readInt()
                val pixels = ByteBuffer.wrap(block()).asIntBuffer()
                later {
                    rgbFromArgb(
                        IntArray(pixels.remaining()) { pixels.get(it) },
                        width,
                        height,
                    ).bytes
                }
            }

            "exif" -> {
                val file = block()
                later { byteArrayOf(exifOrientation(file).toByte()) }
            }

            "contract" -> {
                val json = text()
                later { Contract.parse(json).toString().toByteArray() }
            }

            "info" -> {
                val model = model()
                later { describe(ModelInfo.read(model)).toByteArray() }
            }

            "picture" -> {
                val rule = rule()
                val picture = File(text())
                later { toSquare(decoded(picture), rule).bytes }
            }

            "pack" -> {
                val model = model()
                val contract = text()
                val picture = File(text())
                later { pack(Classifier(model, contract.ifEmpty { null }), picture) }
            }

            "answer" -> {
                val model = model()
                val contract = text()
                val output = block()
                val count = request.readInt()
                later {
                    answer(
                        Classifier(model, contract.ifEmpty { null }),
                        output,
                        count,
                    ).toByteArray()
                }
            }

            "fuzz" -> {
                val model = block()
                val contract = text()
                val seed = request.readLong()
                val count = request.readInt()
                later { fuzz(model, contract, Random(seed), count).toByteArray() }
            }

            else -> {
                error("no operation is called $operation")
            }
        }

    private fun later(work: () -> ByteArray): () -> ByteArray = work

    private fun sized(image: RgbImage): ByteArray =
        ByteBuffer
            .allocate(8 + image.bytes.size)
            .putInt(image.width)
            .putInt(image.height)
            .put(image.bytes)
            .array()
}

private fun describe(info: ModelInfo): String =
    listOf(info.input, info.output)
        .map { "${it.name}|${it.type}|${it.shape}|${it.scale}|${it.zeroPoint}" }
        .plus(info.minRuntime.toString())
        .plus(info.contract?.labelHash.toString())
        .plus(info.labels.orEmpty())
        .joinToString("\n")

/** As this platform decodes it, upright. */
private fun decoded(picture: File): RgbImage {
    val image = ImageIO.read(picture)
    val argb = image.getRGB(0, 0, image.width, image.height, null, 0, image.width)
    val stored = rgbFromArgb(argb, image.width, image.height)
    return stored.oriented(exifOrientation(picture.readBytes()))
}

private fun pack(
    classifier: Classifier,
    picture: File,
): ByteArray {
    val packed = classifier.pack(decoded(picture))
    check(packed.isDirect && packed.order() == ByteOrder.nativeOrder())
    return ByteArray(packed.capacity()) { packed.get(it) }
}

private fun answer(
    classifier: Classifier,
    output: ByteArray,
    count: Int,
): String {
    val buffer = classifier.newOutput()
    output.forEachIndexed { place, byte -> buffer.put(place, byte) }
    val answer = classifier.answer(buffer, count)
    val lines = answer.top.map { "${it.index}|${it.label.name}|${it.probability.toRawBits()}" }
    val present = answer.present.joinToString(",") { it.index.toString() }
    return (listOf("${answer.sure}|$present") + lines).joinToString("\n")
}

/** Damages a model and a contract in many ways; every refusal has to be one of ours. */
private fun fuzz(
    model: ByteArray,
    contract: String,
    random: Random,
    count: Int,
): String {
    var refused = 0
    repeat(count) {
        val damaged = damage(model, random)
        val text = damage(contract.toByteArray(), random).toString(Charsets.UTF_8)
        for (attempt in listOf({ ModelInfo.read(damaged) }, { Classifier(damaged, contract) })) {
            try {
                attempt()
            } catch (_: ClassifierException) {
                refused++
            }
        }
        try {
            Contract.parse(text)
        } catch (_: ContractException) {
            refused++
        }
        check(exifOrientation(damaged.array()) in 1..8)
    }
    return refused.toString()
}

/** Cut short, or some bytes changed, most of them near the ends where the structure lies. */
private fun damage(
    whole: ByteArray,
    random: Random,
): ByteBuffer {
    if (random.nextInt(4) == 0) {
        return ByteBuffer.wrap(whole.copyOf(random.nextInt(whole.size)))
    }
    val copy = whole.copyOf()
    repeat(1 + random.nextInt(8)) {
        val reach = if (random.nextBoolean()) minOf(2048, copy.size) else copy.size
        val at = random.nextInt(reach)
        copy[if (random.nextBoolean()) at else copy.size - 1 - at] = random.nextInt(256).toByte()
    }
    return ByteBuffer.wrap(copy)
}

private fun ByteBuffer.toString(charset: java.nio.charset.Charset): String =
    String(array(), charset)

fun main(arguments: Array<String>) {
    val (from, to) = arguments
    DataInputStream(File(from).inputStream().buffered()).use { request ->
        DataOutputStream(File(to).outputStream().buffered()).use { reply ->
            val replay = Replay(request)
            repeat(request.readInt()) {
                val case = replay.case(request.readUTF())
                val outcome = runCatching(case)
                val error = outcome.exceptionOrNull()
                val bytes =
                    outcome.getOrNull()
                        ?: "${error!!.javaClass.simpleName}: ${error.message}".toByteArray()
                reply.writeByte(if (error == null) 0 else 1)
                reply.writeInt(bytes.size)
                reply.write(bytes)
            }
        }
    }
}
