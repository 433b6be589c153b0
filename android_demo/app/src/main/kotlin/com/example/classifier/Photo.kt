package com.example.classifier

import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.ColorSpace
import android.os.Build
import com.example.classifier.core.RgbImage
import com.example.classifier.core.exifOrientation
import com.example.classifier.core.oriented
import com.example.classifier.core.rgbFromArgb
import com.example.classifier.core.rgbFromRgba
import java.nio.ByteBuffer

/** The system knows no decoder for a file, or the file is damaged. */
class NoPictureException : Exception()

/**
 * A decoded photograph.
 *
 * @property image its pixels, upright where that was asked for
 * @property sample 1, or by how much the decoder shrank a very large photograph
 * @property megapixels of the photograph in its file
 */
class Photo(
    val image: RgbImage,
    val sample: Int,
    val megapixels: Double,
) {
    /** A small picture for the screen; the classifier never sees it. */
    fun forScreen(longestSide: Int = SCREEN_PIXELS): Bitmap {
        val step = maxOf(1, (maxOf(image.width, image.height) + longestSide - 1) / longestSide)
        val width = (image.width + step - 1) / step
        val height = (image.height + step - 1) / step
        val colors = IntArray(width * height)
        for (y in 0 until height) {
            for (x in 0 until width) {
                val at = ((y * step) * image.width + x * step) * CHANNELS
                colors[y * width + x] = OPAQUE or
                    ((image.bytes[at].toInt() and BYTE) shl 16) or
                    ((image.bytes[at + 1].toInt() and BYTE) shl 8) or
                    (image.bytes[at + 2].toInt() and BYTE)
            }
        }
        return Bitmap.createBitmap(colors, width, height, Bitmap.Config.ARGB_8888)
    }

    companion object {
        private const val SCREEN_PIXELS = 1280
        private const val CHANNELS = 3
        private const val BYTE = 0xFF
        private const val OPAQUE = 0xFF shl 24
        private const val STRIP_ROWS = 256

        /**
         * Decodes a file: the pixels that are in it, with nothing scaled, converted or smoothed,
         * unless it has more than [FULL_SIZE_PIXELS].
         *
         * @param file a JPEG, PNG or WebP, or whatever else the system decodes
         * @param applyExif whether to turn it upright, as the contract says
         * @throws NoPictureException the system cannot decode it
         * @throws OutOfMemoryError it does not fit
         */
        @Throws(NoPictureException::class)
        fun decode(
            file: ByteArray,
            applyExif: Boolean,
        ): Photo {
            val bounds = BitmapFactory.Options().apply { inJustDecodeBounds = true }
            BitmapFactory.decodeByteArray(file, 0, file.size, bounds)
            if (bounds.outWidth <= 0 || bounds.outHeight <= 0) throw NoPictureException()
            val sample = sampleSize(bounds.outWidth, bounds.outHeight)
            val options =
                BitmapFactory.Options().apply {
                    inPreferredConfig = Bitmap.Config.ARGB_8888
                    inPremultiplied = false
                    inScaled = false
                    inSampleSize = sample
                }
            val bitmap =
                BitmapFactory.decodeByteArray(file, 0, file.size, options)
                    ?: throw NoPictureException()
            val stored =
                try {
                    pixels(bitmap)
                } finally {
                    bitmap.recycle()
                }
            val upright = if (applyExif) stored.oriented(exifOrientation(file)) else stored
            val megapixels = bounds.outWidth.toDouble() * bounds.outHeight / 1e6
            return Photo(upright, sample, megapixels)
        }

        /**
         * Training reads the numbers in the file and no colour profile. The decoder leaves them
         * alone too, but `getPixels` converts a picture with another profile than sRGB, so such a
         * picture is copied as it lies in memory. Before Android 8 nothing is converted.
         */
        private fun pixels(bitmap: Bitmap): RgbImage =
            if (isConverted(bitmap)) copied(bitmap) else inStrips(bitmap)

        /** Pictures of more than 8 bits a channel have a config of their own; they stay so. */
        private fun isConverted(bitmap: Bitmap): Boolean =
            Build.VERSION.SDK_INT >= Build.VERSION_CODES.O &&
                bitmap.config == Bitmap.Config.ARGB_8888 &&
                bitmap.colorSpace != ColorSpace.get(ColorSpace.Named.SRGB)

        /** The memory of a bitmap: red, green, blue, alpha, whatever its config is called. */
        private fun copied(bitmap: Bitmap): RgbImage {
            val stored = ByteBuffer.allocate(bitmap.rowBytes * bitmap.height)
            bitmap.copyPixelsToBuffer(stored)
            return rgbFromRgba(stored.array(), bitmap.width, bitmap.height, bitmap.rowBytes)
        }

        /** Strip by strip, so that no second full-size copy is made on the way. */
        private fun inStrips(bitmap: Bitmap): RgbImage {
            val width = bitmap.width
            val height = bitmap.height
            val all = ByteArray(width * height * CHANNELS)
            var strip = IntArray(0)
            var top = 0
            while (top < height) {
                val rows = minOf(STRIP_ROWS, height - top)
                if (strip.size != width * rows) strip = IntArray(width * rows)
                bitmap.getPixels(strip, 0, width, 0, top, width, rows)
                rgbFromArgb(strip, width, rows).bytes.copyInto(all, top * width * CHANNELS)
                top += rows
            }
            return RgbImage(width, height, all)
        }
    }
}
