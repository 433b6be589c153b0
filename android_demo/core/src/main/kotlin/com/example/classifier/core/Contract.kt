package com.example.classifier.core

/**
 * How a photograph becomes the square of pixels that the model takes; see docs/contract.md.
 *
 * @property height of the crop, in pixels.
 * @property width of the crop, in pixels.
 * @property resizeShorterSide what the shorter side is resized to before the crop, in pixels.
 * @property applyExif the photograph is turned upright first.
 */
data class Preprocessing(
    val height: Int,
    val width: Int,
    val resizeShorterSide: Int,
    val applyExif: Boolean,
)

enum class Venomous { YES, NO, UNKNOWN }

/**
 * One class.
 *
 * @property name what a person is shown.
 * @property scientificName the species' binomial, where there is one.
 */
data class Label(
    val name: String,
    val scientificName: String?,
    val venomous: Venomous,
)

/** What the outputs mean: one class out of many, or each class for itself. */
enum class Activation { SOFTMAX, SIGMOID }

/**
 * Everything that an app has to know about a classifier.
 *
 * @property notSureThreshold the answer is 'not sure' when the largest probability is below it.
 * @property thresholds with [Activation.SIGMOID] one a class, in the order of [labels]; null where
 *   all share [notSureThreshold].
 * @property labels in the order of the outputs.
 * @property labelHash sha256 (hex) over the labels as the file states it, checked; null where the
 *   file has none.
 */
data class Contract(
    val name: String,
    val preprocessing: Preprocessing,
    val activation: Activation,
    val notSureThreshold: Double,
    val labels: List<Label>,
    val labelHash: String?,
    val thresholds: List<Double>? = null,
) {
    /** From which probability on a class counts, in float32 as the probabilities are. */
    fun threshold(index: Int): Float = (thresholds?.get(index) ?: notSureThreshold).toFloat()

    companion object {
        /**
         * Read `contract.json`, overlooking nothing: an unknown key is refused.
         *
         * @throws ContractException it is not JSON, a key is missing or unknown, a value makes no
         *   sense, or the labels are not those that the hash was made of.
         */
        fun parse(json: String): Contract = ContractReader.read(json)
    }
}
