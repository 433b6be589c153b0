package com.example.classifier.core

private const val UPRIGHT = 1
private const val ORIENTATION_TAG = 0x0112
private const val TIFF_MAGIC = 42
private const val ENTRY_BYTES = 12
private val EXIF_HEADER = byteArrayOf(0x45, 0x78, 0x69, 0x66, 0, 0) // "Exif", two zeros
private val PNG_SIGNATURE = byteArrayOf(-0x77, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A)

// TIFF field types whose values are whole numbers that fit an Int, with their bytes.
private val WHOLE_NUMBERS = mapOf(3 to 2, 4 to 4, 8 to 2, 9 to 4)

/** Bytes from [start] up to [end]; whatever lies outside reads as null. */
private class Span(
    val bytes: ByteArray,
    val start: Int,
    val end: Int,
) {
    val size = end - start

    fun u8(at: Int): Int? = if (at in 0 until size) bytes[start + at].toInt() and 0xFF else null

    fun number(
        at: Int,
        count: Int,
        littleEndian: Boolean,
    ): Long? {
        var value = 0L
        for (place in 0 until count) {
            val byte = u8(if (littleEndian) at + count - 1 - place else at + place) ?: return null
            value = value shl 8 or byte.toLong()
        }
        return value
    }

    fun startsWith(
        wanted: ByteArray,
        at: Int = 0,
    ): Boolean = wanted.indices.all { u8(at + it) == wanted[it].toInt() and 0xFF }

    fun startsWith(
        text: String,
        at: Int,
    ): Boolean = startsWith(text.toByteArray(Charsets.US_ASCII), at)

    /** A part, or null where it reaches beyond the end. */
    fun part(
        at: Long,
        length: Long,
    ): Span? {
        if (at < 0 || length < 0 || at + length > size) {
            return null
        }
        return Span(bytes, start + at.toInt(), start + (at + length).toInt())
    }
}

/**
 * How a stored photograph has to be turned, as EXIF 2.32 defines tag 0x0112.
 *
 * Read from the first EXIF segment of a JPEG, the `eXIf` chunk of a PNG or the `EXIF` chunk of a
 * WebP; only the headers are looked at, the picture may be cut off behind them.
 *
 * @param file the bytes of the file, or of as much as was read.
 * @return 1 to 8; 1 (upright) where there is none or the file is broken. Never throws.
 */
fun exifOrientation(file: ByteArray): Int {
    val span = Span(file, 0, file.size)
    val exif =
        when {
            span.u8(0) == 0xFF && span.u8(1) == 0xD8 -> jpegExif(span)
            span.startsWith(PNG_SIGNATURE) -> pngExif(span)
            span.startsWith("RIFF", 0) && span.startsWith("WEBP", 8) -> webpExif(span)
            else -> null
        } ?: return UPRIGHT
    val header = if (exif.startsWith(EXIF_HEADER)) EXIF_HEADER.size else 0
    val tiff = exif.part(header.toLong(), (exif.size - header).toLong()) ?: return UPRIGHT
    return tiffOrientation(tiff)
}

private fun jpegExif(file: Span): Span? {
    var at = 2
    while (true) {
        val lead = file.u8(at) ?: return null
        val marker = file.u8(at + 1) ?: return null
        if (lead != 0xFF || marker == 0xFF) {
            at += 1 // stray bytes, or fill before a marker
            continue
        }
        if (marker == 0xDA || marker == 0xD9) {
            return null // the picture itself begins, or ends
        }
        if (marker == 0 || marker == 0x01 || marker in 0xD0..0xD8) {
            at += 2 // no length follows
            continue
        }
        val length = file.number(at + 2, 2, false) ?: return null
        val content = file.part(at + 4L, length - 2) ?: return null
        if (marker == 0xE1 && content.startsWith(EXIF_HEADER)) {
            return content
        }
        at += 2 + length.toInt()
    }
}

private fun pngExif(file: Span): Span? {
    var at = PNG_SIGNATURE.size.toLong()
    while (at + 8 <= file.size) {
        val length = file.number(at.toInt(), 4, false) ?: return null
        if (file.startsWith("eXIf", at.toInt() + 4)) {
            return file.part(at + 8, length)
        }
        at += 12 + length
    }
    return null
}

private fun webpExif(file: Span): Span? {
    var at = 12L
    while (at + 8 <= file.size) {
        val length = file.number(at.toInt() + 4, 4, true) ?: return null
        if (file.startsWith("EXIF", at.toInt())) {
            return file.part(at + 8, length)
        }
        at += 8 + length + length % 2
    }
    return null
}

private fun tiffOrientation(tiff: Span): Int {
    val littleEndian =
        when {
            tiff.startsWith("II", 0) -> true
            tiff.startsWith("MM", 0) -> false
            else -> return UPRIGHT
        }
    if (tiff.number(2, 2, littleEndian) != TIFF_MAGIC.toLong()) {
        return UPRIGHT
    }
    val directory = tiff.number(4, 4, littleEndian) ?: return UPRIGHT
    if (directory > tiff.size) {
        return UPRIGHT
    }
    val entries = tiff.number(directory.toInt(), 2, littleEndian) ?: return UPRIGHT
    for (index in 0 until entries.toInt()) {
        val entry = directory.toInt() + 2 + index * ENTRY_BYTES
        val tag = tiff.number(entry, 2, littleEndian) ?: return UPRIGHT
        if (tag == ORIENTATION_TAG.toLong()) {
            return orientationValue(tiff, entry, littleEndian)
        }
    }
    return UPRIGHT
}

private fun orientationValue(
    tiff: Span,
    entry: Int,
    littleEndian: Boolean,
): Int {
    val bytes = WHOLE_NUMBERS[tiff.number(entry + 2, 2, littleEndian)?.toInt()] ?: return UPRIGHT
    if (tiff.number(entry + 4, 4, littleEndian) != 1L) {
        return UPRIGHT
    }
    val value = tiff.number(entry + 8, bytes, littleEndian) ?: return UPRIGHT
    return if (value in 1..8) value.toInt() else UPRIGHT
}
