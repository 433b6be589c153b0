package com.example.classifier.core

/** Bytes of a pixel: red, green, blue. */
const val CHANNELS = 3

private const val RGBA_BYTES = 4
private const val BYTE = 0xFF
private const val WHITE = 255
private const val PRECISION = 7

/**
 * A picture of 8-bit red, green and blue.
 *
 * @property bytes R, G, B of each pixel, row by row: `width * height * 3` of them.
 * @throws ImageException a side is below 1, or there are more or fewer bytes.
 */
class RgbImage(
    val width: Int,
    val height: Int,
    val bytes: ByteArray,
) {
    init {
        val wanted = byteCount(width, height)
        if (bytes.size != wanted) {
            throw ImageException("$width x $height pixels are $wanted bytes, not ${bytes.size}")
        }
    }
}

/** Bytes of a picture; refuses what no array could hold. */
internal fun byteCount(
    width: Int,
    height: Int,
): Int {
    val count = width.toLong() * height * CHANNELS
    if (width < 1 || height < 1 || count > Int.MAX_VALUE) {
        throw ImageException("a picture of $width x $height pixels cannot be held")
    }
    return count.toInt()
}

/**
 * The picture upright.
 *
 * @param orientation the EXIF value, see [exifOrientation]; what is not 2 to 8 changes nothing.
 */
fun RgbImage.oriented(orientation: Int): RgbImage {
    if (orientation !in 2..8) {
        return this
    }
    val turned = orientation >= 5
    val newWidth = if (turned) height else width
    val newHeight = if (turned) width else height
    // Where the stored pixel of (0, 0) lies, and the steps to the next one right and below.
    val right = width - 1
    val bottom = (height - 1) * width
    val (start, stepX, stepY) =
        when (orientation) {
            2 -> Triple(right, -1, width)
            3 -> Triple(bottom + right, -1, -width)
            4 -> Triple(bottom, 1, -width)
            5 -> Triple(0, width, 1)
            6 -> Triple(bottom, -width, 1)
            7 -> Triple(bottom + right, -width, -1)
            else -> Triple(right, width, -1)
        }
    val out = ByteArray(bytes.size)
    var to = 0
    for (y in 0 until newHeight) {
        var from = (start + y * stepY) * CHANNELS
        for (x in 0 until newWidth) {
            out[to] = bytes[from]
            out[to + 1] = bytes[from + 1]
            out[to + 2] = bytes[from + 2]
            to += CHANNELS
            from += stepX * CHANNELS
        }
    }
    return RgbImage(newWidth, newHeight, out)
}

/**
 * A picture from `Bitmap.getPixels`, transparent pixels laid over white.
 *
 * @param argb one Int a pixel, row by row: alpha, red, green, blue from the highest byte down,
 *   colours not multiplied by alpha.
 * @throws ImageException a side is below 1, or there are more or fewer pixels.
 */
fun rgbFromArgb(
    argb: IntArray,
    width: Int,
    height: Int,
): RgbImage {
    val out = ByteArray(byteCount(width, height))
    if (argb.size != out.size / CHANNELS) {
        throw ImageException("$width x $height pixels are not ${argb.size}")
    }
    var to = 0
    for (pixel in argb) {
        val alpha = pixel ushr 24
        out[to] = overWhite(pixel ushr 16 and BYTE, alpha)
        out[to + 1] = overWhite(pixel ushr 8 and BYTE, alpha)
        out[to + 2] = overWhite(pixel and BYTE, alpha)
        to += CHANNELS
    }
    return RgbImage(width, height, out)
}

/**
 * A picture from the bytes of a bitmap (`Bitmap.copyPixelsToBuffer`), transparent pixels laid
 * over white.
 *
 * @param rgba red, green, blue, alpha of each pixel, row by row, colours not multiplied by alpha.
 * @param stride bytes from one row to the next, at least `width * 4`.
 * @throws ImageException a side is below 1, or there are too few bytes.
 */
fun rgbFromRgba(
    rgba: ByteArray,
    width: Int,
    height: Int,
    stride: Int = width * RGBA_BYTES,
): RgbImage {
    val out = ByteArray(byteCount(width, height))
    val needed = (height - 1L) * stride + width.toLong() * RGBA_BYTES
    if (stride < width.toLong() * RGBA_BYTES || rgba.size < needed) {
        throw ImageException("$width x $height pixels are not ${rgba.size} bytes, rows of $stride")
    }
    var to = 0
    for (y in 0 until height) {
        var from = y * stride
        repeat(width) {
            val alpha = rgba[from + CHANNELS].toInt() and BYTE
            for (channel in 0 until CHANNELS) {
                out[to++] = overWhite(rgba[from + channel].toInt() and BYTE, alpha)
            }
            from += RGBA_BYTES
        }
    }
    return RgbImage(width, height, out)
}

/** One channel over white, in the arithmetic of Pillow's alpha_composite (docs/contract.md). */
private fun overWhite(
    value: Int,
    alpha: Int,
): Byte {
    if (alpha == WHITE) {
        return value.toByte()
    }
    val weight = alpha shl PRECISION
    val rest = (WHITE shl PRECISION) - weight
    val mixed = value * weight + WHITE * rest + (128 shl PRECISION)
    return ((mixed ushr 8) + mixed ushr 8 ushr PRECISION).toByte()
}
