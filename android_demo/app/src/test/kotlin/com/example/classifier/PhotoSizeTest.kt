package com.example.classifier

import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test

class PhotoSizeTest {
    @Test
    fun nothingIsShrunkUpToTheLimit() {
        assertEquals(1, sampleSize(4000, 4000))
        assertEquals(1, sampleSize(4032, 3024))
        assertEquals(1, sampleSize(1, 1))
    }

    @Test
    fun onePixelMoreIsHalved() {
        assertEquals(2, sampleSize(4001, 4000))
    }

    @Test
    fun hugePhotographsComeBelowTheLimit() {
        assertEquals(2, sampleSize(8160, 6120)) // 50 megapixels
        assertEquals(4, sampleSize(16320, 12240)) // 200 megapixels
        assertEquals(1 shl 11, sampleSize(Int.MAX_VALUE, 2_000_000_000, 1L shl 40))
    }

    @Test
    fun noSizeIsRefused() {
        assertThrows(IllegalArgumentException::class.java) { sampleSize(0, 5) }
    }
}
