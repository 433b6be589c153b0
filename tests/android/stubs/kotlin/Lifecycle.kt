// Stubs: just what android_demo uses of these libraries, which are written in Kotlin, for a type check.
// They prove our spelling, not Google's.
package androidx.lifecycle

import android.app.Application

interface ViewModelStoreOwner

fun interface Observer<T> {
    fun onChanged(value: T)
}

abstract class LiveData<T> {
    open val value: T?
        get() = throw UnsupportedOperationException()

    open fun observe(
        owner: LifecycleOwner,
        observer: Observer<in T>,
    ): Unit = throw UnsupportedOperationException("$owner $observer")
}

open class MutableLiveData<T>(
    @Suppress("UNUSED_PARAMETER") value: T,
) : LiveData<T>() {
    open fun postValue(value: T): Unit = throw UnsupportedOperationException("$value")
}

abstract class ViewModel {
    protected open fun onCleared() = Unit
}

open class AndroidViewModel(
    private val application: Application,
) : ViewModel() {
    @Suppress("UNCHECKED_CAST")
    open fun <T : Application> getApplication(): T = application as T
}

class SavedStateHandle {
    operator fun <T> get(key: String): T? = throw UnsupportedOperationException(key)

    operator fun <T> set(
        key: String,
        value: T?,
    ): Unit = throw UnsupportedOperationException("$key $value")
}
