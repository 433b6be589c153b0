package com.example.classifier.core

import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.charset.CharacterCodingException
import java.nio.charset.CodingErrorAction

/**
 * Reads bytes of a file at offsets that the file itself states, and never outside of it.
 *
 * The buffer may be larger than memory should hold (a mapped model), so nothing is copied but what
 * is asked for. Every complaint is a [ModelException] that begins with [what].
 */
internal class Bytes(
    buffer: ByteBuffer,
    private val what: String,
) {
    private val data = buffer.duplicate().order(ByteOrder.LITTLE_ENDIAN)

    /** Bytes there are, from 0 on, whatever the position of the buffer is. */
    val size: Int = data.limit()

    fun damaged(why: String): Nothing = throw ModelException("$what is damaged: $why")

    fun check(
        at: Long,
        length: Long,
    ): Int {
        if (at < 0 || length < 0 || at + length > size) {
            damaged("$length bytes at $at lie outside of its $size bytes")
        }
        return at.toInt()
    }

    fun u8(at: Long): Int = data.get(check(at, 1)).toInt() and 0xFF

    fun u16(at: Long): Int = data.getShort(check(at, 2)).toInt() and 0xFFFF

    fun i32(at: Long): Int = data.getInt(check(at, 4))

    fun u32(at: Long): Long = i32(at).toLong() and 0xFFFFFFFFL

    fun i64(at: Long): Long = data.getLong(check(at, 8))

    fun f32(at: Long): Float = data.getFloat(check(at, 4))

    fun copy(
        at: Long,
        length: Long,
    ): ByteArray {
        val from = check(at, length)
        return ByteArray(length.toInt()) { data.get(from + it) }
    }

    fun text(
        at: Long,
        length: Long,
    ): String = utf8(copy(at, length), what)
}

/** Strict UTF-8. */
internal fun utf8(
    bytes: ByteArray,
    what: String,
): String =
    try {
        Charsets.UTF_8
            .newDecoder()
            .onMalformedInput(CodingErrorAction.REPORT)
            .onUnmappableCharacter(CodingErrorAction.REPORT)
            .decode(ByteBuffer.wrap(bytes))
            .toString()
    } catch (_: CharacterCodingException) {
        throw ModelException("$what is damaged: a text in it is not UTF-8")
    }

/** A vector: where its first element lies, and how many there are. */
internal class Vector(
    val start: Long,
    val length: Int,
)

/** A table of a flatbuffer, its fields by their slot in the schema. */
internal class Table private constructor(
    private val bytes: Bytes,
    private val at: Long,
) {
    private val fields = at - bytes.i32(at)
    private val fieldBytes = bytes.u16(fields)

    init {
        bytes.check(fields, fieldBytes.toLong())
    }

    /** Where a field's value lies; null where the table leaves it out. */
    private fun field(slot: Int): Long? {
        val entry = 4 + 2 * slot
        val offset = if (entry + 2 <= fieldBytes) bytes.u16(fields + entry) else 0
        return if (offset == 0) null else at + offset
    }

    private fun follow(place: Long): Long = place + bytes.u32(place)

    fun byte(slot: Int): Int = field(slot)?.let(bytes::u8) ?: 0

    fun uint(slot: Int): Long = field(slot)?.let(bytes::u32) ?: 0

    fun text(slot: Int): String? = vector(slot, 1)?.let { bytes.text(it.start, it.length.toLong()) }

    /** A vector of elements of [width] bytes; null where the table leaves it out. */
    fun vector(
        slot: Int,
        width: Int,
    ): Vector? {
        val start = follow(field(slot) ?: return null)
        val length = bytes.u32(start)
        bytes.check(start + 4, length * width)
        return Vector(start + 4, length.toInt())
    }

    fun ints(slot: Int): List<Int> =
        vector(slot, 4).elements { start, place -> bytes.i32(start + 4L * place) }

    fun floats(slot: Int): List<Float> =
        vector(slot, 4).elements { start, place -> bytes.f32(start + 4L * place) }

    fun longs(slot: Int): List<Long> =
        vector(slot, 8).elements { start, place -> bytes.i64(start + 8L * place) }

    fun tables(slot: Int): List<Table> =
        vector(slot, 4).elements { start, place -> Table(bytes, follow(start + 4L * place)) }

    fun table(slot: Int): Table? = field(slot)?.let { Table(bytes, follow(it)) }

    /** The bytes of a `[ubyte]` vector. */
    fun blob(slot: Int): ByteArray? =
        vector(slot, 1)?.let { bytes.copy(it.start, it.length.toLong()) }

    private fun <T> Vector?.elements(read: (Long, Int) -> T): List<T> =
        if (this == null) emptyList() else List(length) { read(start, it) }

    companion object {
        /**
         * The root table.
         *
         * @param identifier the four letters at bytes 4 to 8 that say what the buffer holds.
         * @throws ModelException they are others, or the root lies outside.
         */
        fun root(
            bytes: Bytes,
            identifier: String,
        ): Table {
            val letters =
                identifier.indices.map {
                    if (it + 4 <
                        bytes.size
                    ) {
                        bytes.u8(it + 4L)
                    } else {
                        0
                    }
                }
            if (letters != identifier.map { it.code }) {
                bytes.damaged("it lacks the identifier $identifier in bytes 4 to 8")
            }
            return Table(bytes, bytes.u32(0))
        }
    }
}
