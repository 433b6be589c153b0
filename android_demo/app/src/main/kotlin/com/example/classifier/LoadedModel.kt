package com.example.classifier

import android.content.res.AssetManager
import com.example.classifier.core.Answer
import com.example.classifier.core.Classifier
import com.example.classifier.core.ModelInfo
import com.example.classifier.core.RgbImage
import org.tensorflow.lite.Interpreter
import java.io.Closeable
import java.io.FileInputStream
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.channels.FileChannel

/** The app was built without a model in its assets. */
class NoModelException : Exception()

/** The model lies compressed in the APK. */
class CompressedModelException : Exception()

/**
 * LiteRT refuses the model, or its native library does not run here.
 *
 * @param needs the lowest runtime that has the model's operators, where the model says so
 */
class RuntimeFailedException(
    cause: Throwable,
    needs: String?,
) : Exception(
        (cause.message ?: cause.javaClass.simpleName) +
            needs?.let { " (the model needs TFLite $it or newer)" }.orEmpty(),
        cause,
    )

/**
 * An answer and how long it took.
 *
 * @property preprocessMs from the decoded picture to the packed tensor, in milliseconds
 * @property inferenceMs LiteRT alone, in milliseconds
 */
class TimedAnswer(
    val answer: Answer,
    val preprocessMs: Double,
    val inferenceMs: Double,
)

/**
 * The model of the app's assets in LiteRT; everything about it comes from the file and its
 * contract. Not safe for use by two threads at once.
 *
 * LiteRT's Interpreter is used, not its CompiledModel: it runs the very bytes that `core` has
 * checked (both read one mapped buffer), takes direct buffers of any tensor type (CompiledModel's
 * Kotlin buffers know no uint8), and runs the CPU kernels that the exporter's proof ran.
 */
class LoadedModel private constructor(
    val classifier: Classifier,
    val threads: Int,
    private val interpreter: Interpreter,
) : Closeable {
    val file: String get() = MODEL

    /** @param count how many of the most probable classes to give */
    fun classify(
        picture: RgbImage,
        count: Int = SHOWN,
    ): TimedAnswer {
        val began = System.nanoTime()
        val input = classifier.pack(picture)
        val packed = System.nanoTime()
        val output = run(input)
        val ran = System.nanoTime()
        return TimedAnswer(
            classifier.answer(output, count),
            (packed - began) / NANOS_PER_MS,
            (ran - packed) / NANOS_PER_MS,
        )
    }

    private fun run(input: ByteBuffer): ByteBuffer {
        val output = classifier.newOutput()
        inRuntime(classifier.info) { interpreter.run(input, output) }
        return output
    }

    override fun close() = interpreter.close()

    companion object {
        const val MODEL = "model.tflite"
        const val CONTRACT = "contract.json"
        const val SHOWN = 3
        private const val MAX_THREADS = 4
        private const val NANOS_PER_MS = 1e6

        /**
         * Maps, checks and warms up the model of the assets.
         *
         * @throws NoModelException there is none
         * @throws CompressedModelException it cannot be mapped
         * @throws com.example.classifier.core.ClassifierException file and contract do not fit
         * @throws RuntimeFailedException LiteRT does not take it
         */
        fun load(assets: AssetManager): LoadedModel {
            val held = assets.list("").orEmpty()
            if (MODEL !in held) throw NoModelException()
            val contract =
                if (CONTRACT in held) {
                    assets.open(CONTRACT).use { it.readBytes().decodeToString() }
                } else {
                    null
                }
            val bytes = map(assets)
            val classifier = Classifier(bytes, contract)
            val threads = Runtime.getRuntime().availableProcessors().coerceIn(1, MAX_THREADS)
            val options = Interpreter.Options().setNumThreads(threads)
            val interpreter = inRuntime(classifier.info) { Interpreter(bytes, options) }
            return LoadedModel(classifier, threads, interpreter).apply { warmUp() }
        }

        /** LiteRT reports a model that it cannot run by one of these. */
        private inline fun <T> inRuntime(
            info: ModelInfo,
            work: () -> T,
        ): T =
            try {
                work()
            } catch (error: IllegalArgumentException) {
                throw RuntimeFailedException(error, info.minRuntime)
            } catch (error: IllegalStateException) {
                throw RuntimeFailedException(error, info.minRuntime)
            } catch (error: LinkageError) {
                throw RuntimeFailedException(error, info.minRuntime)
            }

        private fun map(assets: AssetManager): ByteBuffer {
            val descriptor =
                try {
                    assets.openFd(MODEL)
                } catch (_: IOException) {
                    throw CompressedModelException()
                }
            return descriptor.use { part ->
                FileInputStream(part.fileDescriptor).use { stream ->
                    stream.channel.map(
                        FileChannel.MapMode.READ_ONLY,
                        part.startOffset,
                        part.declaredLength,
                    )
                }
            }
        }

        /** The first run sets memory and kernels up; the latency line is about the later ones. */
        private fun LoadedModel.warmUp() {
            val rule = classifier.contract.preprocessing
            classify(RgbImage(rule.width, rule.height, ByteArray(rule.width * rule.height * 3)))
        }
    }
}
