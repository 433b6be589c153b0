package com.example.classifier.core

/** Fractional bits of a weight. */
private const val BITS = 22
private const val ONE = 1 shl BITS
private const val HALF = 1 shl (BITS - 1)

/** A 1 x 60,000 picture would resize to gigabytes; the exporter refuses the same. */
private const val MAX_ELONGATION = 50

/** The weights of one pass: for each new sample the first old one it uses, and its weights. */
private class Weights(
    val first: IntArray,
    val factors: Array<IntArray>,
)

/**
 * Pillow's antialiased bilinear resize, width first, to the bit: docs/contract.md, "Resize, to the
 * bit".
 *
 * @throws ImageException a new side is below 1.
 */
fun resize(
    image: RgbImage,
    width: Int,
    height: Int,
): RgbImage {
    byteCount(width, height)
    val rows = if (width == image.width) image else resizeRows(image, width)
    return if (height == rows.height) rows else resizeColumns(rows, height)
}

/**
 * The square (or rectangle) that the model takes: the shorter side resized, the centre cropped.
 *
 * @throws ImageException the picture is more than 50 times as long as wide.
 */
fun toSquare(
    image: RgbImage,
    rule: Preprocessing,
): RgbImage {
    val longer = maxOf(image.width, image.height)
    val shorter = minOf(image.width, image.height)
    if (longer > MAX_ELONGATION.toLong() * shorter) {
        throw ImageException(
            "a picture of ${image.width} x ${image.height} pixels is too elongated, crop it first",
        )
    }
    val side = rule.resizeShorterSide
    val long = ((side.toLong() * longer).toDouble() / shorter).toInt()
    val resized =
        if (image.width <= image.height) resize(image, side, long) else resize(image, long, side)
    return crop(resized, rule.width, rule.height)
}

private fun crop(
    image: RgbImage,
    width: Int,
    height: Int,
): RgbImage {
    if (width > image.width || height > image.height) {
        throw ImageException(
            "$width x $height pixels cannot be cropped from ${image.width} x ${image.height}",
        )
    }
    val left = halfToEven(image.width - width)
    val top = halfToEven(image.height - height)
    val out = ByteArray(byteCount(width, height))
    for (y in 0 until height) {
        val from = ((top + y) * image.width + left) * CHANNELS
        image.bytes.copyInto(out, y * width * CHANNELS, from, from + width * CHANNELS)
    }
    return RgbImage(width, height, out)
}

private fun halfToEven(over: Int): Int {
    val half = over shr 1
    return if (over and 1 == 1 && half and 1 == 1) half + 1 else half
}

private fun weights(
    old: Int,
    new: Int,
): Weights {
    val scale = old.toDouble() / new
    val stretch = maxOf(scale, 1.0)
    val narrow = 1.0 / stretch
    val first = IntArray(new)
    val factors =
        Array(new) { place ->
            val center = (place + 0.5) * scale
            val begin = maxOf((center - stretch + 0.5).toInt(), 0)
            val end = minOf((center + stretch + 0.5).toInt(), old)
            first[place] = begin
            fixedPoint(DoubleArray(end - begin) { triangle((it + begin - center + 0.5) * narrow) })
        }
    return Weights(first, factors)
}

private fun triangle(x: Double): Double = maxOf(0.0, 1.0 - Math.abs(x))

private fun fixedPoint(raw: DoubleArray): IntArray {
    var total = 0.0
    for (value in raw) {
        total += value
    }
    return IntArray(raw.size) { (raw[it] / total * ONE + 0.5).toInt() }
}

private fun toByte(sum: Int): Byte = (sum shr BITS).coerceIn(0, 255).toByte()

private fun resizeRows(
    image: RgbImage,
    width: Int,
): RgbImage {
    val weights = weights(image.width, width)
    val bytes = image.bytes
    val out = ByteArray(byteCount(width, image.height))
    var to = 0
    for (y in 0 until image.height) {
        val row = y * image.width
        for (x in 0 until width) {
            var red = HALF
            var green = HALF
            var blue = HALF
            var from = (row + weights.first[x]) * CHANNELS
            for (factor in weights.factors[x]) {
                red += (bytes[from].toInt() and 255) * factor
                green += (bytes[from + 1].toInt() and 255) * factor
                blue += (bytes[from + 2].toInt() and 255) * factor
                from += CHANNELS
            }
            out[to] = toByte(red)
            out[to + 1] = toByte(green)
            out[to + 2] = toByte(blue)
            to += CHANNELS
        }
    }
    return RgbImage(width, image.height, out)
}

private fun resizeColumns(
    image: RgbImage,
    height: Int,
): RgbImage {
    val weights = weights(image.height, height)
    val bytes = image.bytes
    val stride = image.width * CHANNELS
    val out = ByteArray(byteCount(image.width, height))
    val sums = IntArray(stride)
    for (y in 0 until height) {
        sums.fill(HALF)
        var from = weights.first[y] * stride
        for (factor in weights.factors[y]) {
            for (place in 0 until stride) {
                sums[place] += (bytes[from + place].toInt() and 255) * factor
            }
            from += stride
        }
        for (place in 0 until stride) {
            out[y * stride + place] = toByte(sums[place])
        }
    }
    return RgbImage(image.width, height, out)
}
