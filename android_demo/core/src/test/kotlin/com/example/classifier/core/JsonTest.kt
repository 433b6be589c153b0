package com.example.classifier.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class JsonTest {
    private fun text(json: String): String = (Json.parse(json) as Json.Text).value

    private fun refused(json: String): String =
        assertThrows(json, JsonException::class.java) { Json.parse(json) }.message.orEmpty()

    @Test
    fun `values of every kind`() {
        val found =
            Json.parse(
                " {\"a\": [1, -2.5e3, true, false, null, \"x\"], \"b\": {}, \"c\":[]} ",
            )
        val expected =
            Json.Object(
                mapOf(
                    "a" to
                        Json.Array(
                            listOf(
                                Json.Number("1"),
                                Json.Number("-2.5e3"),
                                Json.Bool(true),
                                Json.Bool(false),
                                Json.Null,
                                Json.Text("x"),
                            ),
                        ),
                    "b" to Json.Object(emptyMap()),
                    "c" to Json.Array(emptyList()),
                ),
            )
        assertEquals(expected, found)
    }

    @Test
    fun `whole numbers are told from others`() {
        assertEquals(224, Json.Number("224").whole())
        assertEquals(null, Json.Number("224.0").whole())
        assertEquals(null, Json.Number("1e2").whole())
        assertEquals(null, Json.Number("99999999999").whole())
        assertEquals(-2500.0, Json.Number("-2.5e3").real(), 0.0)
    }

    @Test
    fun `escapes and surrogate pairs`() {
        assertEquals("\"\\/\b\u000C\n\r\t\u00e9", text("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00E9\""))
        assertEquals("\uD83D\uDC0D", text("\"\\ud83d\\udc0D\""))
        assertEquals("\uD83D\uDC0D!", text("\"\uD83D\uDC0D!\""))
    }

    @Test
    fun `half a surrogate pair is refused wherever it stands`() {
        listOf(
            "\\ud83d",
            "\\ud83dx",
            "\\udc0d",
            "x\\udc0d",
            "\\ud83d\\ud83d",
            "\\ud83d\\udc0d\\udc0d",
        ).forEach { assertTrue(it, "surrogate" in refused("\"$it\"")) }
    }

    @Test
    fun `what is no JSON is refused`() {
        listOf(
            "",
            " ",
            "{",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "'a'",
            "\"a",
            "\"\\",
            "\"\\u12",
            "\"\\u12g4\"",
            "\"\\x\"",
            "\"\n\"",
            "01",
            "1.",
            ".5",
            "+1",
            "-",
            "1e",
            "NaN",
            "Infinity",
            "1e999",
            "nul",
            "tru",
            "truex",
            "1 2",
            "[1]]",
            "// x",
            "\u0000",
        ).forEach { refused(it) }
    }

    @Test
    fun `a key twice is refused`() {
        assertTrue("there twice" in refused("{\"a\":1,\"a\":null}"))
    }

    @Test
    fun `depth is limited, not the stack`() {
        Json.parse("[".repeat(60) + "]".repeat(60))
        assertTrue("deeper" in refused("[".repeat(100_000)))
        assertTrue("deeper" in refused("{\"a\":".repeat(100_000)))
    }

    @Test
    fun `the place is named`() {
        assertTrue(refused("{\n \"a\": ?}").startsWith("line 2, column 7"))
    }

    @Test
    fun `quoted as Python writes it`() {
        assertEquals(
            "\"a\\\"\\\\\\n\\u0001\u007f\u00e9\u2028\"",
            Json.quoted("a\"\\\n\u0001\u007f\u00e9\u2028"),
        )
    }
}
