package com.example.classifier.core

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test
import java.nio.ByteBuffer

class OutputsTest {
    private fun tensor(
        type: TensorType,
        scale: Float,
        zeroPoint: Int,
    ) = TensorInfo("logits", type, listOf(1, 3), scale, zeroPoint)

    @Test
    fun `integers become real values`() {
        val bytes = ByteBuffer.wrap(byteArrayOf(-128, 0, 127))
        val signed = dequantized(bytes, tensor(TensorType.INT8, 0.5f, -2), 3)
        assertArrayEquals(floatArrayOf(-63f, 1f, 64.5f), signed, 0f)
        val unsigned = dequantized(bytes, tensor(TensorType.UINT8, 0.5f, 2), 3)
        assertArrayEquals(floatArrayOf(63f, -1f, 62.5f), unsigned, 0f)
    }

    @Test
    fun `position and limit of the buffer do not matter`() {
        val bytes = ByteBuffer.wrap(byteArrayOf(1, 2, 3))
        (bytes as java.nio.Buffer).position(3)
        val found = dequantized(bytes, tensor(TensorType.INT8, 1f, 0), 3)
        assertArrayEquals(floatArrayOf(1f, 2f, 3f), found, 0f)
        assertEquals(3, bytes.position())
    }

    @Test
    fun `too small a buffer is refused`() {
        assertThrows(ModelException::class.java) {
            dequantized(ByteBuffer.allocate(2), tensor(TensorType.INT8, 1f, 0), 3)
        }
    }

    @Test
    fun `softmax by hand, and of large values`() {
        val found = softmax(floatArrayOf(0f, Math.log(3.0).toFloat()))
        assertArrayEquals(floatArrayOf(0.25f, 0.75f), found, 1e-7f)
        assertArrayEquals(
            floatArrayOf(0.5f, 0.5f, 0f),
            softmax(floatArrayOf(1e4f, 1e4f, -1e4f)),
            0f,
        )
    }

    @Test
    fun `sigmoid by hand, and of large values`() {
        val found = sigmoid(floatArrayOf(0f, Math.log(3.0).toFloat(), 1e4f, -1e4f))
        assertArrayEquals(floatArrayOf(0.5f, 0.75f, 1f, 0f), found, 1e-7f)
    }

    @Test
    fun `what is no probability is refused`() {
        for (value in listOf(Float.NaN, -0.5f, 1.5f, Float.POSITIVE_INFINITY)) {
            assertThrows(
                ModelException::class.java,
            ) { checkedProbabilities(floatArrayOf(0f, value)) }
        }
        checkedProbabilities(floatArrayOf(0f, 1.0001f))
    }
}
