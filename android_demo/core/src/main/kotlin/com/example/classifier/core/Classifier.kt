package com.example.classifier.core

import java.nio.ByteBuffer
import java.nio.ByteOrder

/** The name of an output tensor that stands in front of the last activation. */
private const val LOGITS = "logits"
private const val INT8_SHIFT = 128

/**
 * One class in an answer.
 *
 * @property index its place among the outputs.
 * @property probability 0 to 1.
 */
data class Ranked(
    val label: Label,
    val index: Int,
    val probability: Float,
)

/**
 * What a person is told.
 *
 * @property sure the largest probability reaches the contract's threshold, or with
 *   [Activation.SIGMOID] any class reaches its own; where none does, an app says 'not sure'.
 * @property top the most probable classes, the most probable first; of two that are equal the one
 *   with the lower index.
 * @property present what the picture shows, the most probable first: with [Activation.SIGMOID]
 *   every class that reaches its threshold, however many they are, else the first class where
 *   it is sure. Empty where it is not sure.
 */
data class Answer(
    val sure: Boolean,
    val top: List<Ranked>,
    val present: List<Ranked>,
)

/**
 * A model file together with its contract: from a picture to the input tensor, and from the
 * output tensor to the answer. What runs the model lies between the two and is not known here.
 *
 * @param model the `.tflite` file.
 * @param contractJson the `contract.json` beside it; null to take the one inside the file.
 * @throws ModelException the file is damaged, or its tensors are of a kind that is not known.
 * @throws ContractException there is no contract, or it and the file disagree.
 */
class Classifier(
    model: ByteBuffer,
    contractJson: String?,
) {
    val info: ModelInfo = ModelInfo.read(model)
    val contract: Contract =
        contractJson?.let(Contract::parse)
            ?: info.contract
            ?: throw ContractException("no contract lies beside the model or inside it")

    init {
        checkAgreement(info, contract)
    }

    /**
     * The input tensor for a picture.
     *
     * @param image upright: see [oriented].
     * @return direct, native byte order, `[1, height, width, 3]` of the input's type: uint8 the
     *   pixels, int8 the pixels less 128, float32 the pixels as 0 to 255. The model normalizes.
     * @throws ImageException the picture is more than 50 times as long as wide.
     */
    fun pack(image: RgbImage): ByteBuffer {
        val pixels = toSquare(image, contract.preprocessing).bytes
        val out = direct(pixels.size * info.input.type.bytes)
        pixels.forEachIndexed { place, pixel ->
            when (info.input.type) {
                TensorType.UINT8 -> out.put(place, pixel)
                TensorType.INT8 -> out.put(place, (pixel - INT8_SHIFT).toByte())
                else -> out.putFloat(place * 4, (pixel.toInt() and 0xFF).toFloat())
            }
        }
        return out
    }

    /** Room for the output tensor: direct, native byte order. */
    fun newOutput(): ByteBuffer = direct(contract.labels.size * info.output.type.bytes)

    /**
     * The answer that an output tensor means.
     *
     * @param output the tensor from byte 0 on in native byte order; position and limit of the
     *   buffer do not matter.
     * @param count how many classes [Answer.top] has at most.
     * @throws ModelException the buffer is too small, or holds no probabilities (NaN, say).
     */
    fun answer(
        output: ByteBuffer,
        count: Int = 3,
    ): Answer {
        val probabilities = probabilities(output)
        val ranked =
            probabilities.indices
                .sortedByDescending { probabilities[it] } // stable: equals stay in their order
                .map { Ranked(contract.labels[it], it, probabilities[it]) }
        val considered = if (contract.activation == Activation.SIGMOID) ranked else ranked.take(1)
        // Both in float32: a probability written as the threshold reaches it.
        val present = considered.filter { it.probability >= contract.threshold(it.index) }
        return Answer(present.isNotEmpty(), ranked.take(count.coerceAtLeast(0)), present)
    }

    private fun probabilities(output: ByteBuffer): FloatArray {
        val values = dequantized(output, info.output, contract.labels.size)
        if (info.output.name != LOGITS) {
            return checkedProbabilities(values)
        }
        return checkedProbabilities(
            when (contract.activation) {
                Activation.SOFTMAX -> softmax(values)
                Activation.SIGMOID -> sigmoid(values)
            },
        )
    }

    private fun direct(bytes: Int): ByteBuffer =
        ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder())
}
