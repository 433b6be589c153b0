package com.example.classifier.core

import java.nio.ByteBuffer

/**
 * What a tensor's elements are.
 *
 * @property code in the schema of TFLite.
 * @property bytes of an element; 0 where this code does not handle them.
 */
enum class TensorType(
    internal val code: Int,
    val bytes: Int,
) {
    FLOAT32(0, 4),
    FLOAT16(1, 2),
    INT32(2, 4),
    UINT8(3, 1),
    INT64(4, 8),
    BOOL(6, 1),
    INT16(7, 2),
    INT8(9, 1),
    FLOAT64(10, 8),
    UINT64(12, 8),
    UINT32(15, 4),
    UINT16(16, 2),
    OTHER(-1, 0),
}

/**
 * One tensor at the model's edge.
 *
 * @property shape sizes from the outermost dimension in.
 * @property scale a real value is `scale * (integer - zeroPoint)`; 0 where it is not quantized.
 */
data class TensorInfo(
    val name: String,
    val type: TensorType,
    val shape: List<Int>,
    val scale: Float,
    val zeroPoint: Int,
)

/**
 * What a `.tflite` file says about itself.
 *
 * @property labels the lines of the labels file inside, in the order of the outputs; null where
 *   there is none.
 * @property contract the `contract.json` inside; null where there is none.
 * @property minRuntime the lowest version of the runtime that has all of its operators.
 */
class ModelInfo(
    val input: TensorInfo,
    val output: TensorInfo,
    val labels: List<String>?,
    val contract: Contract?,
    val minRuntime: String?,
) {
    companion object {
        /**
         * Read a model's edges, metadata and associated files; the position of the buffer and its
         * byte order do not matter and do not change.
         *
         * @throws ModelException it is no TFLite file, is damaged or cut short, or does not have
         *   exactly one input and one output.
         */
        fun read(model: ByteBuffer): ModelInfo = ModelReader(Bytes(model, "the model")).read()
    }
}
