package com.example.classifier.core

import java.nio.ByteBuffer
import java.nio.ByteOrder

/** How far rounding may carry a probability outside of 0 to 1. */
private const val SLACK = 1e-3f

/**
 * A tensor's real values, `scale * (integer - zeroPoint)` where it is quantized.
 *
 * @throws ModelException the buffer holds fewer than [count] elements.
 */
internal fun dequantized(
    output: ByteBuffer,
    tensor: TensorInfo,
    count: Int,
): FloatArray {
    val wanted = count * tensor.type.bytes
    if (output.capacity() < wanted) {
        throw ModelException("the output has ${output.capacity()} bytes, $wanted are needed")
    }
    val data = output.duplicate().order(ByteOrder.nativeOrder())
    (data as java.nio.Buffer).clear() // the limit to the capacity; nothing is erased
    return FloatArray(count) {
        when (tensor.type) {
            TensorType.UINT8 -> tensor.scale * ((data.get(it).toInt() and 0xFF) - tensor.zeroPoint)
            TensorType.INT8 -> tensor.scale * (data.get(it) - tensor.zeroPoint)
            else -> data.getFloat(it * 4)
        }
    }
}

/** `exp(x) / sum(exp(x))`, in double, safe for large values. */
internal fun softmax(logits: FloatArray): FloatArray {
    val largest = logits.max().toDouble()
    val powers = DoubleArray(logits.size) { Math.exp(logits[it] - largest) }
    val total = powers.sum()
    return FloatArray(logits.size) { (powers[it] / total).toFloat() }
}

/** `1 / (1 + exp(-x))`, in double. */
internal fun sigmoid(logits: FloatArray): FloatArray =
    FloatArray(logits.size) { (1.0 / (1.0 + Math.exp(-logits[it].toDouble()))).toFloat() }

/**
 * The values, if they can be probabilities.
 *
 * @throws ModelException one is NaN or outside of 0 to 1.
 */
internal fun checkedProbabilities(values: FloatArray): FloatArray {
    values.forEachIndexed { place, value ->
        if (!(value >= -SLACK && value <= 1 + SLACK)) { // NaN is neither
            throw ModelException("output $place is $value, which is no probability")
        }
    }
    return values
}
