package com.example.classifier.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

/** A contract as a person might write it, with parts to replace. */
internal fun contractText(
    input: String = "\"height\": 4, \"width\": 4, \"resize_shorter_side\": 5",
    output: String = "\"activation\": \"softmax\"",
    labels: String = """["a", {"name": "b", "scientific_name": "B b", "venomous": "yes"}]""",
    more: String = "",
): String =
    """{"schema": 1, "input": {$input}, "normalization": {"mean": [0, 0, 0], "std": [1, 1, 1]},
       "output": {$output}, "labels": $labels$more}"""

class ContractTest {
    private fun refused(
        json: String,
        vararg words: String,
    ) {
        val error = assertThrows(json, ContractException::class.java) { Contract.parse(json) }
        words.forEach { assertTrue("$it in: ${error.message}", it in error.message.orEmpty()) }
    }

    @Test
    fun `a small contract with everything left out that may be`() {
        val contract = Contract.parse("\uFEFF" + contractText())
        assertEquals(Preprocessing(4, 4, 5, applyExif = true), contract.preprocessing)
        assertEquals(Activation.SOFTMAX, contract.activation)
        assertEquals(0.5, contract.notSureThreshold, 0.0)
        assertEquals(Label("a", null, Venomous.UNKNOWN), contract.labels[0])
        assertEquals(Label("b", "B b", Venomous.YES), contract.labels[1])
        assertEquals("classifier", contract.name)
        assertNull(contract.labelHash)
    }

    @Test
    fun `exif may be left alone`() {
        val input = "\"height\": 4, \"width\": 4, \"resize_shorter_side\": 5, \"exif\": \"ignore\""
        assertFalse(Contract.parse(contractText(input)).preprocessing.applyExif)
    }

    @Test
    fun `a network of one channel is fed colours all the same`() {
        val input = "\"height\": 4, \"width\": 4, \"resize_shorter_side\": 5, \"grayscale\": "
        val plain = Contract.parse(contractText()).preprocessing
        assertEquals(plain, Contract.parse(contractText(input + "true")).preprocessing)
        refused(contractText(input + "1"), "grayscale", "true or false")
    }

    @Test
    fun `a hash that is not that of the labels is refused`() {
        refused(contractText(more = ", \"label_hash\": \"abc\""), "label_hash", "abc")
        val made = ContractReader.labelHash(Contract.parse(contractText()).labels)
        Contract.parse(contractText(more = ", \"label_hash\": \"$made\""))
    }

    @Test
    fun `wrong values are named`() {
        refused("[]", "a list", "object")
        refused("{", "JSON")
        refused("{}", "schema")
        refused(contractText().replace("\"schema\": 1", "\"schema\": 2"), "schema 2")
        refused(contractText(more = ", \"extra\": 1"), "unknown", "extra")
        refused(contractText(output = "\"activation\": \"relu\""), "relu", "softmax")
        refused(contractText(output = "\"not_sure_threshold\": 0.5"), "activation")
        refused(contractText(labels = "[\"a\"]"), "label")
        refused(contractText(labels = "[\"a\", \"a\"]"), "twice", "a")
        refused(contractText(labels = "[\"a\", \" \"]"), "labels[1]")
        refused(contractText(labels = "[\"a\", {\"name\": \"b\", \"venomous\": \"no!\"}]"), "no!")
        refused(contractText(labels = "[\"a\", {\"name\": \"b\", \"wings\": 2}]"), "wings")
        val threshold = "\"activation\": \"softmax\", \"not_sure_threshold\": "
        listOf("1.5", "-0.1", "\"x\"", "true").forEach {
            refused(
                contractText(
                    output =
                        threshold + it,
                ),
            )
        }
    }

    @Test
    fun `thresholds by class`() {
        val several = "\"activation\": \"sigmoid\", \"thresholds\": "
        val contract = Contract.parse(contractText(output = several + "[0.25, 1]"))
        assertEquals(listOf(0.25, 1.0), contract.thresholds)
        assertEquals(0.25f, contract.threshold(0), 0f)
        val plain = Contract.parse(contractText(output = "\"activation\": \"sigmoid\""))
        assertNull(plain.thresholds)
        assertEquals(0.5f, plain.threshold(1), 0f)
        refused(contractText(output = several + "[0.5]"), "1 number", "2 labels")
        refused(contractText(output = several + "[]"), "0 number")
        refused(contractText(output = several + "[0.5, 1.5]"), "thresholds[1]", "1.5")
        refused(contractText(output = several + "[0.5, true]"), "thresholds[1]", "a number")
        listOf("0.5", "null", "{}").forEach {
            refused(contractText(output = several + it), "thresholds", "a list")
        }
        val one = contractText(output = several.replace("sigmoid", "softmax") + "[0.5, 0.5]")
        refused(one, "thresholds", "sigmoid")
    }

    @Test
    fun `wrong inputs are named`() {
        val rest = "\"width\": 4, \"resize_shorter_side\": 5"
        listOf("0", "4097", "4.0", "true", "null").forEach {
            refused(contractText("\"height\": $it, $rest"), "height")
        }
        refused(contractText("\"height\": 6, $rest"), "crop", "6 x 4")
        refused(contractText("\"height\": 4, $rest, \"layout\": \"NCHW\""), "layout", "NCHW")
        refused(contractText("\"height\": 4, $rest, \"antialias\": false"), "antialias")
        val short = contractText().replace("[1, 1, 1]", "[1, 0, 1]")
        refused(short, "std")
    }
}
