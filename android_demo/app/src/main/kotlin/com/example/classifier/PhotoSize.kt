package com.example.classifier

/**
 * Up to so many pixels a photograph is decoded as it is. 16 million are 48 MB as RGB, which with
 * its turned copy still fits the large heap of a small phone; most phone cameras give 12 million.
 */
const val FULL_SIZE_PIXELS = 16_000_000L

/**
 * By which power of two the platform's decoder has to shrink a photograph, 1 for not at all.
 *
 * Anything but 1 replaces part of the contract's resize by the decoder's own, so it is used only
 * above [limit] pixels, and the screen says so.
 *
 * @param width of the photograph in its file, in pixels
 * @param height of the photograph in its file, in pixels
 * @param limit the most pixels to decode
 */
fun sampleSize(
    width: Int,
    height: Int,
    limit: Long = FULL_SIZE_PIXELS,
): Int {
    require(width > 0 && height > 0) { "a picture of $width x $height pixels" }
    var sample = 1
    while ((width.toLong() / sample) * (height.toLong() / sample) > limit) {
        sample *= 2
    }
    return sample
}
