package com.example.classifier

import android.app.Application
import android.net.Uri
import android.util.Log
import androidx.lifecycle.AndroidViewModel
import androidx.lifecycle.LiveData
import androidx.lifecycle.MutableLiveData
import androidx.lifecycle.SavedStateHandle
import com.example.classifier.core.Activation
import com.example.classifier.core.Answer
import com.example.classifier.core.ClassifierException
import com.example.classifier.core.Contract
import com.example.classifier.core.ImageException
import com.example.classifier.core.Ranked
import com.example.classifier.core.Venomous
import java.io.File
import java.io.IOException
import java.util.concurrent.Executors

/**
 * Loads the model and judges photographs, one after the other, off the main thread.
 *
 * It outlives a rotation. The photograph lies in a file of the app's cache, so that after the
 * system has ended the process the same photograph is judged again.
 */
class ClassifierViewModel(
    application: Application,
    private val saved: SavedStateHandle,
) : AndroidViewModel(application) {
    private val worker = Executors.newSingleThreadExecutor()
    private val shown = MutableLiveData(Screen())
    private var latest = Screen()

    /** A photograph is to be judged; it may arrive before the model is loaded. */
    @Volatile private var hasPhotograph = false

    // Of the worker's thread only.
    private var model: LoadedModel? = null
    private var refusal: Problem? = null

    val screen: LiveData<Screen> get() = shown

    /** Where the camera writes, and where a chosen photograph is copied to. */
    val photograph = File(application.cacheDir, "photograph")

    init {
        val again = saved.get<Boolean>(HAS_PHOTOGRAPH) == true && photograph.isFile
        hasPhotograph = again
        worker.execute {
            refusal = tried { model = LoadedModel.load(application.assets) }
            val ready = refusal == null
            change {
                val problem = refusal ?: it.problem // what happened meanwhile stays to be read
                it.copy(ready = ready, busy = ready && hasPhotograph, problem = problem)
            }
            if (ready && again) end(tried { classify() })
        }
    }

    /** Shows the camera instead of the last photograph. */
    fun showCamera() {
        saved[HAS_PHOTOGRAPH] = false
        change { it.copy(camera = true, picture = null, result = null, problem = null) }
    }

    /** Says what went wrong outside: no permission, no camera, no photograph taken. */
    fun show(problem: Problem) =
        change {
            val loading = it.busy && !it.ready
            it.copy(camera = false, busy = loading, problem = problem)
        }

    /** The camera was asked for a photograph; [judge] or [show] comes next. */
    fun startsCapture() = change { it.copy(busy = true, problem = null) }

    /** Copies what the picker gave, then judges it. */
    fun choose(source: Uri) {
        val content = getApplication<Application>().contentResolver
        begin()
        later {
            val input = content.openInputStream(source) ?: throw IOException("$source")
            input.use { from -> photograph.outputStream().use { from.copyTo(it) } }
            classify()
        }
    }

    /** Judges the photograph that lies in [photograph]. */
    fun judge() {
        begin()
        later { classify() }
    }

    override fun onCleared() {
        worker.execute {
            model?.close()
            photograph.delete()
        }
        worker.shutdown()
    }

    /**
     * Works on the worker's thread, or says again why the model was refused: a photograph that was
     * chosen before the system ended the process arrives in any case.
     */
    private fun later(work: () -> Unit) {
        if (worker.isShutdown) return // the camera may still report after the screen was closed
        worker.execute { end(refusal ?: tried(work)) }
    }

    private fun begin() {
        saved[HAS_PHOTOGRAPH] = true
        hasPhotograph = true
        change {
            it.copy(camera = false, busy = true, picture = null, result = null, problem = null)
        }
    }

    private fun end(problem: Problem?) {
        if (problem == null) return
        change { it.copy(busy = false, result = null, problem = problem) }
    }

    private fun classify() {
        val loaded = model ?: throw NoModelException()
        if (photograph.length() > MAX_FILE_BYTES) throw TooLargeException()
        val contract = loaded.classifier.contract
        val photo = Photo.decode(photograph.readBytes(), contract.preprocessing.applyExif)
        if (photo.sample > 1) {
            Log.w(TAG, "read at 1/${photo.sample}: ${photo.megapixels} megapixels")
        }
        val timed = loaded.classify(photo.image)
        val finding =
            Finding(
                timed,
                listed(timed.answer, contract),
                if (contract.thresholds == null) contract.notSureThreshold else null,
                contract.labels.any { it.venomous != Venomous.UNKNOWN },
                loaded.threads,
                loaded.file,
                photo.sample,
                photo.megapixels,
            )
        val picture = photo.forScreen()
        change { it.copy(busy = false, picture = picture, result = finding, problem = null) }
    }

    /** Of classes that each stand for themselves, all that are there; else the top three. */
    private fun listed(
        answer: Answer,
        contract: Contract,
    ): List<Ranked> {
        if (contract.activation == Activation.SOFTMAX || !answer.sure) return answer.top
        return answer.present
    }

    /** Runs `work`; null, or what went wrong in words for the screen. */
    private fun tried(work: () -> Unit): Problem? {
        val problem =
            try {
                work()
                return null
            } catch (_: NoModelException) {
                Problem(R.string.no_model)
            } catch (_: CompressedModelException) {
                Problem(R.string.model_compressed)
            } catch (error: ImageException) {
                Problem(R.string.unreadable, error.message)
            } catch (error: ClassifierException) {
                Problem(R.string.model_refused, error.message)
            } catch (error: RuntimeFailedException) {
                Problem(R.string.runtime_failed, error.message)
            } catch (_: NoPictureException) {
                Problem(R.string.no_picture)
            } catch (_: TooLargeException) {
                Problem(R.string.too_large)
            } catch (_: OutOfMemoryError) {
                Problem(R.string.too_large)
            } catch (error: IOException) {
                Problem(R.string.unreadable, error.message)
            } catch (error: SecurityException) {
                Problem(R.string.unreadable, error.message)
            } catch (error: RuntimeException) {
                Log.w(TAG, "not expected", error) // a defect, but no reason to vanish
                Problem(R.string.unexpected, error.toString())
            }
        Log.w(TAG, "problem: $problem")
        return problem
    }

    /** The newest screen, changed; callable from any thread. */
    private fun change(how: (Screen) -> Screen) {
        synchronized(this) {
            latest = how(latest)
            shown.postValue(latest)
        }
    }

    private class TooLargeException : Exception()

    private companion object {
        const val TAG = "Classifier"
        const val HAS_PHOTOGRAPH = "has_photograph"
        const val MAX_FILE_BYTES = 64L * 1024 * 1024
    }
}
