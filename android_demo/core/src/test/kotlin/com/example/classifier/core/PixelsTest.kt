package com.example.classifier.core

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test

class PixelsTest {
    /** One row of pixels that are grey. */
    private fun row(vararg values: Int) = image(values.size, 1, *values)

    private fun image(
        width: Int,
        height: Int,
        vararg values: Int,
    ) = RgbImage(width, height, ByteArray(values.size * 3) { values[it / 3].toByte() })

    private fun reds(image: RgbImage) =
        IntArray(image.width * image.height) { image.bytes[it * 3].toInt() and 0xFF }

    @Test
    fun `halving a row by hand`() {
        // Centers 1 and 3, weights .75 .75 .25 and .25 .75 .75, each over 1.75: 420/7 and 1180/7.
        assertArrayEquals(intArrayOf(60, 169), reds(resize(row(0, 100, 120, 240), 2, 1)))
    }

    @Test
    fun `the same size is the same picture`() {
        val picture = row(1, 200, 3)
        assertArrayEquals(picture.bytes, resize(picture, 3, 1).bytes)
    }

    @Test
    fun `every orientation of two by three`() {
        val stored = image(2, 3, 1, 2, 3, 4, 5, 6)
        val expected =
            mapOf(
                0 to listOf(1, 2, 3, 4, 5, 6),
                1 to listOf(1, 2, 3, 4, 5, 6),
                2 to listOf(2, 1, 4, 3, 6, 5),
                3 to listOf(6, 5, 4, 3, 2, 1),
                4 to listOf(5, 6, 3, 4, 1, 2),
                5 to listOf(1, 3, 5, 2, 4, 6),
                6 to listOf(5, 3, 1, 6, 4, 2),
                7 to listOf(6, 4, 2, 5, 3, 1),
                8 to listOf(2, 4, 6, 1, 3, 5),
                9 to listOf(1, 2, 3, 4, 5, 6),
            )
        for ((orientation, values) in expected) {
            val found = stored.oriented(orientation)
            assertEquals("$orientation", values, reds(found).toList())
            assertEquals("$orientation", if (orientation in 5..8) 3 else 2, found.width)
        }
    }

    @Test
    fun `transparent pixels over white`() {
        val found = rgbFromArgb(intArrayOf(0x00123456, -0xedcbaa, 0x00FFFFFF), 3, 1)
        assertArrayEquals(intArrayOf(255, 0x12, 255), reds(found))
    }

    @Test
    fun `a bitmap's own bytes, with room behind each row`() {
        val pixels = intArrayOf(0x00123456, -0xedcbaa, -0x7f0f10, -0x1)
        val bytes = ByteArray(2 * 12)
        pixels.forEachIndexed { place, argb ->
            val at = place / 2 * 12 + place % 2 * 4
            listOf(16, 8, 0, 24).forEachIndexed { part, shift ->
                bytes[at + part] = (argb ushr shift).toByte()
            }
        }
        val expected = rgbFromArgb(pixels, 2, 2).bytes
        assertArrayEquals(expected, rgbFromRgba(bytes, 2, 2, 12).bytes)
        assertThrows(ImageException::class.java) { rgbFromRgba(bytes, 2, 3, 12) }
        assertThrows(ImageException::class.java) { rgbFromRgba(bytes, 4, 2, 12) }
        assertThrows(ImageException::class.java) { rgbFromRgba(ByteArray(0), 0, 2) }
    }

    @Test
    fun `the crop's offset is half to even`() {
        val rule = Preprocessing(1, 1, 1, applyExif = true)
        assertArrayEquals(intArrayOf(1), reds(toSquare(row(1, 2), rule))) // 0.5 goes to 0
        assertArrayEquals(intArrayOf(3), reds(toSquare(row(1, 2, 3, 4), rule))) // 1.5 goes to 2
    }

    @Test
    fun `sizes that make no sense are refused`() {
        assertThrows(ImageException::class.java) { RgbImage(2, 2, ByteArray(11)) }
        assertThrows(ImageException::class.java) { RgbImage(0, 2, ByteArray(0)) }
        assertThrows(ImageException::class.java) { RgbImage(1 shl 16, 1 shl 16, ByteArray(0)) }
        assertThrows(ImageException::class.java) { resize(row(1), 0, 1) }
        assertThrows(ImageException::class.java) { rgbFromArgb(IntArray(3), 2, 2) }
        val rule = Preprocessing(4, 4, 5, applyExif = true)
        assertThrows(ImageException::class.java) { toSquare(RgbImage(51, 1, ByteArray(153)), rule) }
    }

    @Test
    fun `no orientation in garbage`() {
        listOf(
            "",
            "x",
            "\u00ff\u00d8",
            "\u00ff\u00d8\u00ff\u00e1\u0000\u0000",
            "RIFF....WEBP",
            "\u0089PNG\r\n\u001a\n",
        ).forEach { assertEquals(1, exifOrientation(it.toByteArray(Charsets.ISO_8859_1))) }
    }
}
