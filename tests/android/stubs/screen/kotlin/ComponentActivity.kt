// Fake: it does on a desktop's Java what the real class does, as far as the app's screen goes, for a test.
package androidx.activity

import android.app.Activity
import androidx.activity.result.ActivityResultCallback
import androidx.activity.result.ActivityResultLauncher
import androidx.activity.result.contract.ActivityResultContract
import androidx.lifecycle.LifecycleOwner
import androidx.lifecycle.SavedStateHandle
import androidx.lifecycle.ViewModel
import androidx.lifecycle.ViewModelStoreOwner

open class ComponentActivity :
    Activity(),
    LifecycleOwner,
    ViewModelStoreOwner {
    private val callbacks = mutableListOf<Pair<Class<*>, ActivityResultCallback<*>>>()
    var destroyed = false

    fun <I, O> registerForActivityResult(
        contract: ActivityResultContract<I, O>,
        callback: ActivityResultCallback<O>,
    ): ActivityResultLauncher<I> {
        callbacks += contract.javaClass to callback
        return object : ActivityResultLauncher<I>() {
            override fun launch(input: I) = Unit
        }
    }

    /** What another app or the system answers. */
    @Suppress("UNCHECKED_CAST")
    fun <O> answer(
        contract: Class<out ActivityResultContract<*, O>>,
        result: O,
    ) {
        val callback = callbacks.single { it.first == contract }.second
        (callback as ActivityResultCallback<O>).onActivityResult(result)
    }
}

fun ComponentActivity.enableEdgeToEdge(): Unit = check(!destroyed)

/** The view model outlives activities; the saved state outlives the process. */
object Kept {
    var model: ViewModel? = null
    val saved = SavedStateHandle()
    lateinit var make: () -> ViewModel
}

@Suppress("UNCHECKED_CAST")
fun <VM : ViewModel> viewModelOf(
    activity: ComponentActivity,
    kind: Class<VM>,
): Lazy<VM> =
    lazy {
        check(!activity.destroyed)
        val model = Kept.model ?: Kept.make()
        Kept.model = model
        kind.cast(model)
    }
