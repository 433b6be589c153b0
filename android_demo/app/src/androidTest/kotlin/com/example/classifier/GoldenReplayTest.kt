package com.example.classifier

import androidx.test.ext.junit.runners.AndroidJUnit4
import androidx.test.platform.app.InstrumentationRegistry
import com.example.classifier.core.RgbImage
import com.example.classifier.core.toSquare
import org.json.JSONArray
import org.json.JSONObject
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import java.security.MessageDigest
import kotlin.math.abs

/**
 * Replays what the exporter recorded, on this device: exact pixels through LiteRT, and whole
 * photographs through the app's decoding and preprocessing. `make android` brings the files.
 */
@RunWith(AndroidJUnit4::class)
class GoldenReplayTest {
    private val instrumentation = InstrumentationRegistry.getInstrumentation()
    private val assets = instrumentation.context.assets
    private val golden = JSONObject(text("golden.json"))
    private val format = JSONObject(text("copied.json")).getString("format")
    private lateinit var model: LoadedModel

    @Before
    fun load() {
        model = LoadedModel.load(instrumentation.targetContext.assets)
    }

    @After
    fun close() = model.close()

    @Test
    fun theModelIsTheOneThatWasRecorded() {
        val recorded = JSONObject(text("copied.json")).getString("sha256")
        val bytes = instrumentation.targetContext.assets.open(LoadedModel.MODEL)
        assertEquals(recorded, sha256(bytes.use { it.readBytes() }))
        assertEquals(golden.getString("label_hash"), model.classifier.contract.labelHash)
    }

    @Test
    fun goldenImagesGiveTheRecordedProbabilities() {
        val precision = golden.getJSONObject("precision").getString(format)
        val tolerance = golden.getJSONObject("tolerance").getDouble(precision)
        val images = golden.getJSONArray("images").objects()
        assertTrue("no golden image", images.isNotEmpty())
        for (image in images) {
            val name = image.getString("file")
            val pixels = decode(name)
            assertEquals("$name: pixels", image.getString("pixels_sha256"), sha256(pixels.bytes))
            val classes = model.classifier.contract.labels.size
            val answer = model.classify(pixels, classes).answer
            val found = DoubleArray(classes)
            answer.top.forEach { found[it.index] = it.probability.toDouble() }
            val expected = image.getJSONObject("probabilities").getJSONArray(format)
            assertEquals("$name: classes", expected.length(), classes)
            for (index in 0 until classes) {
                val what = "$name: probability $index of $format"
                assertEquals(what, expected.getDouble(index), found[index], tolerance)
            }
        }
    }

    @Test
    fun photographsGiveTheRecordedSquares() {
        val rule = model.classifier.contract.preprocessing
        val photos = golden.getJSONArray("photos").objects()
        assertTrue("no golden photograph", photos.isNotEmpty())
        for (photo in photos) {
            val name = photo.getString("file")
            val found = toSquare(decode(name), rule).bytes
            val expected = decode(photo.getString("square")).bytes
            assertEquals("$name: size", expected.size, found.size)
            val steps = expected.indices.map { abs(level(expected[it]) - level(found[it])) }
            val largest = photo.getInt("max_difference")
            assertTrue("$name: ${steps.max()} grey levels", steps.max() <= largest)
            val mean = photo.getDouble("mean_difference")
            assertTrue("$name: mean ${steps.average()}", steps.average() <= mean)
        }
    }

    private fun decode(name: String): RgbImage =
        Photo.decode(assets.open("golden/$name").use { it.readBytes() }, applyExif = true).image

    private fun text(name: String): String =
        assets.open("golden/$name").use { it.readBytes().decodeToString() }

    private fun level(value: Byte): Int = value.toInt() and 0xFF

    private fun sha256(bytes: ByteArray): String =
        MessageDigest.getInstance("SHA-256").digest(bytes).joinToString("") { "%02x".format(it) }

    private fun JSONArray.objects(): List<JSONObject> = List(length()) { getJSONObject(it) }
}
