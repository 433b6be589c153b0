package com.example.classifier.core

import java.util.zip.CRC32
import java.util.zip.DataFormatException
import java.util.zip.Inflater

private const val END_BYTES = 22
private const val LONGEST_COMMENT = 0xFFFF
private const val END_MARK = 0x06054B50L
private const val ENTRY_MARK = 0x02014B50L
private const val ENTRY_BYTES = 46
private const val LOCAL_MARK = 0x04034B50L
private const val LOCAL_BYTES = 30
private const val STORED = 0
private const val DEFLATED = 8
private const val ENCRYPTED = 1

/** No associated file is near this; a forged size does not take the memory of a phone. */
private const val LARGEST = 16 shl 20

/**
 * The files that TFLite Metadata packs behind the flatbuffer as a ZIP archive.
 *
 * Offsets may count from the front of the whole file, or from the front of the archive.
 */
internal class AssociatedFiles private constructor(
    private val bytes: Bytes,
    private val entries: Map<String, Entry>,
) {
    private class Entry(
        val method: Int,
        val crc: Long,
        val packed: Long,
        val unpacked: Long,
        val local: Long,
    )

    /**
     * A file's content, or null where there is no file of this name.
     *
     * @throws ModelException it is damaged, larger than 16 MiB, encrypted or compressed otherwise.
     */
    fun read(name: String): ByteArray? {
        val entry = entries[name] ?: return null
        if (entry.unpacked > LARGEST) {
            bytes.damaged("$name in it is said to have ${entry.unpacked} bytes")
        }
        if (bytes.u32(entry.local) != LOCAL_MARK) {
            bytes.damaged("$name in it does not begin where it should")
        }
        val names = bytes.u16(entry.local + 26) + bytes.u16(entry.local + 28)
        val packed = bytes.copy(entry.local + LOCAL_BYTES + names, entry.packed)
        val content =
            when (entry.method) {
                STORED -> packed
                DEFLATED -> inflate(packed, entry.unpacked.toInt(), name)
                else -> bytes.damaged("$name in it is compressed in a way not known")
            }
        val crc = CRC32().apply { update(content, 0, content.size) }
        if (content.size.toLong() != entry.unpacked || crc.value != entry.crc) {
            bytes.damaged("$name in it does not have the checksum it should")
        }
        return content
    }

    private fun inflate(
        packed: ByteArray,
        size: Int,
        name: String,
    ): ByteArray {
        val inflater = Inflater(true)
        try {
            inflater.setInput(packed)
            val out = ByteArray(size)
            var filled = 0
            while (filled < size && !inflater.finished()) {
                val count = inflater.inflate(out, filled, size - filled)
                if (count == 0 && (inflater.needsInput() || inflater.needsDictionary())) {
                    break
                }
                filled += count
            }
            return if (filled == size) out else bytes.damaged("$name in it is cut short")
        } catch (_: DataFormatException) {
            bytes.damaged("$name in it cannot be unpacked")
        } finally {
            inflater.end()
        }
    }

    companion object {
        /** @throws ModelException there is an archive, and it is damaged. */
        fun find(bytes: Bytes): AssociatedFiles {
            val end = endRecord(bytes) ?: return AssociatedFiles(bytes, emptyMap())
            val length = bytes.u32(end + 12)
            val start = end - length
            val shift = start - bytes.u32(end + 16) // what stands in front of the archive
            val entries = HashMap<String, Entry>()
            var at = start
            repeat(bytes.u16(end + 10)) {
                if (at + ENTRY_BYTES > end || bytes.u32(at) != ENTRY_MARK) {
                    bytes.damaged("the list of its associated files is broken")
                }
                val nameBytes = bytes.u16(at + 28)
                val name = bytes.text(at + ENTRY_BYTES, nameBytes.toLong())
                if (bytes.u16(at + 8) and ENCRYPTED != 0) {
                    bytes.damaged("$name in it is encrypted")
                }
                entries[name] =
                    Entry(
                        method = bytes.u16(at + 10),
                        crc = bytes.u32(at + 16),
                        packed = bytes.u32(at + 20),
                        unpacked = bytes.u32(at + 24),
                        local = bytes.u32(at + 42) + shift,
                    )
                at += ENTRY_BYTES + nameBytes + bytes.u16(at + 30) + bytes.u16(at + 32)
            }
            return AssociatedFiles(bytes, entries)
        }

        /** Where the archive's last record begins; null where there is no archive. */
        private fun endRecord(bytes: Bytes): Long? {
            val last = bytes.size.toLong() - END_BYTES
            val first = maxOf(0L, last - LONGEST_COMMENT)
            return (last downTo first).firstOrNull { at ->
                bytes.u32(at) == END_MARK && at + bytes.u16(at + 20) == last
            }
        }
    }
}
