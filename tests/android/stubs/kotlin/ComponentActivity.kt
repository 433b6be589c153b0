// Stubs: just what android_demo uses of these libraries, which are written in Kotlin, for a type check.
// They prove our spelling, not Google's.
package androidx.activity

import android.app.Activity
import androidx.activity.result.ActivityResultCallback
import androidx.activity.result.ActivityResultLauncher
import androidx.activity.result.contract.ActivityResultContract
import androidx.lifecycle.LifecycleOwner
import androidx.lifecycle.ViewModel
import androidx.lifecycle.ViewModelStoreOwner

open class ComponentActivity :
    Activity(),
    LifecycleOwner,
    ViewModelStoreOwner {
    fun <I, O> registerForActivityResult(
        contract: ActivityResultContract<I, O>,
        callback: ActivityResultCallback<O>,
    ): ActivityResultLauncher<I> = throw UnsupportedOperationException("$contract $callback")
}

fun ComponentActivity.enableEdgeToEdge(): Unit = throw UnsupportedOperationException("$this")

inline fun <reified VM : ViewModel> ComponentActivity.viewModels(): Lazy<VM> = viewModelOf(this, VM::class.java)

/** Not in the real library: what is inlined into the app ends here, where a fake can stand. */
fun <VM : ViewModel> viewModelOf(
    activity: ComponentActivity,
    kind: Class<VM>,
): Lazy<VM> = throw UnsupportedOperationException("$activity $kind")
