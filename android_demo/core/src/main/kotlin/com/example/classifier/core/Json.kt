package com.example.classifier.core

/** A JSON text that is none; the message names line and column. */
internal class JsonException(
    message: String,
) : Exception(message)

/** A JSON value, RFC 8259. */
internal sealed class Json {
    data object Null : Json()

    data class Bool(
        val value: Boolean,
    ) : Json()

    /** A number as it was written: 1 and 1.0 are told apart. */
    data class Number(
        val text: String,
    ) : Json() {
        fun whole(): Int? = if (text.any { it in ".eE" }) null else text.toIntOrNull()

        fun real(): Double = text.toDouble()
    }

    data class Text(
        val value: String,
    ) : Json()

    data class Array(
        val items: List<Json>,
    ) : Json()

    data class Object(
        val fields: Map<String, Json>,
    ) : Json()

    /** What a person calls this kind of value. */
    fun kind(): String =
        when (this) {
            Null -> "null"
            is Bool -> "true or false"
            is Number -> "a number"
            is Text -> "a text"
            is Array -> "a list"
            is Object -> "an object"
        }

    companion object {
        /**
         * Read one value, strictly: no comments, no trailing commas, no key twice, no lone surrogate.
         *
         * @throws JsonException it is not JSON, or nested deeper than 64 levels.
         */
        fun parse(text: String): Json = JsonParser(text).document()

        /**
         * A text in quotes as Python's `json.dumps(..., ensure_ascii=False)` writes it, which the
         * label hash is made of.
         */
        fun quoted(text: String): String =
            buildString {
                append('"')
                text.forEach { append(SHORT_ESCAPES[it] ?: escapedControl(it)) }
                append('"')
            }

        private fun escapedControl(char: Char): String =
            if (char < ' ') "\\u" + char.code.toString(16).padStart(4, '0') else char.toString()

        private val SHORT_ESCAPES =
            mapOf(
                '"' to "\\\"",
                '\\' to "\\\\",
                '\n' to "\\n",
                '\r' to "\\r",
                '\t' to "\\t",
                '\b' to "\\b",
                '\u000C' to "\\f",
            )
    }
}

private const val DEEPEST = 64
private val NUMBER = Regex("-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?")
private val HEXADECIMAL = Regex("[0-9a-fA-F]{4}")
private val ESCAPED =
    mapOf(
        '"' to '"',
        '\\' to '\\',
        '/' to '/',
        'b' to '\b',
        'f' to '\u000C',
        'n' to '\n',
        'r' to '\r',
        't' to '\t',
    )

private class JsonParser(
    private val text: String,
) {
    private var at = 0

    fun document(): Json {
        val value = value(0)
        skipSpace()
        if (at < text.length) {
            fail("something follows the value")
        }
        return value
    }

    private fun fail(what: String): Nothing {
        val before = text.substring(0, minOf(at, text.length))
        val line = before.count { it == '\n' } + 1
        val column = before.length - (before.lastIndexOf('\n') + 1) + 1
        throw JsonException("line $line, column $column: $what")
    }

    private fun peek(): Char? = text.getOrNull(at)

    private fun skipSpace() {
        while (at < text.length && text[at] in " \t\r\n") {
            at++
        }
    }

    private fun expect(char: Char) {
        if (peek() != char) {
            fail("'$char' is missing")
        }
        at++
    }

    private fun value(depth: Int): Json {
        if (depth > DEEPEST) {
            fail("nested deeper than $DEEPEST levels")
        }
        skipSpace()
        return when (peek()) {
            null -> fail("the text ends too early")
            '{' -> objectValue(depth)
            '[' -> Json.Array(list(']') { value(depth + 1) })
            '"' -> Json.Text(string())
            't' -> word("true", Json.Bool(true))
            'f' -> word("false", Json.Bool(false))
            'n' -> word("null", Json.Null)
            else -> number()
        }
    }

    private fun word(
        wanted: String,
        value: Json,
    ): Json {
        if (!text.startsWith(wanted, at)) {
            fail("no value begins like this")
        }
        at += wanted.length
        return value
    }

    private fun number(): Json {
        var end = at
        while (end < text.length && (text[end] in '0'..'9' || text[end] in "+-.eE")) {
            end++
        }
        val found = text.substring(at, end)
        if (!NUMBER.matches(found)) {
            fail("no value begins like this")
        }
        if (found.toDouble().isInfinite()) {
            fail("the number is too large")
        }
        at = end
        return Json.Number(found)
    }

    /** What stands between the bracket at the cursor and the [closing] one, parted by commas. */
    private fun <T> list(
        closing: Char,
        item: () -> T,
    ): List<T> {
        at++
        skipSpace()
        val items = mutableListOf<T>()
        if (peek() == closing) {
            at++
            return items
        }
        while (true) {
            items += item()
            skipSpace()
            if (peek() == closing) {
                at++
                return items
            }
            expect(',')
        }
    }

    private fun objectValue(depth: Int): Json {
        val fields = LinkedHashMap<String, Json>()
        list('}') {
            skipSpace()
            val key = string()
            skipSpace()
            expect(':')
            if (fields.put(key, value(depth + 1)) != null) {
                fail("the key \"$key\" is there twice")
            }
        }
        return Json.Object(fields)
    }

    private fun string(): String {
        expect('"')
        val out = StringBuilder()
        while (true) {
            val char = peek() ?: fail("a text has no closing quote")
            at++
            when {
                char == '"' -> return out.toString()
                char == '\\' -> out.append(escape())
                char < ' ' -> fail("a control character inside a text")
                else -> out.append(char)
            }
            refuseLoneSurrogate(out)
        }
    }

    private fun escape(): Char {
        val char = peek() ?: fail("the text ends inside an escape")
        at++
        if (char != 'u') {
            return ESCAPED[char] ?: fail("the escape \\$char does not exist")
        }
        val digits = text.substring(at, minOf(at + 4, text.length))
        if (!HEXADECIMAL.matches(digits)) {
            fail("\\u wants four hexadecimal digits")
        }
        at += 4
        return digits.toInt(16).toChar()
    }

    /** A high surrogate is followed by a low one; checked when the character after it is there. */
    private fun refuseLoneSurrogate(out: StringBuilder) {
        val last = out[out.length - 1]
        val before = out.getOrNull(out.length - 2)
        val paired = before != null && before.isHighSurrogate()
        val alone = last.isHighSurrogate() && peek() == '"'
        if (last.isLowSurrogate() != paired || alone) {
            fail("half of a surrogate pair")
        }
    }
}
