// Fake: it does on a desktop's Java what the real class does, as far as the app's screen goes, for a test.
package androidx.lifecycle

import androidx.activity.ComponentActivity
import fake.Phone

abstract class LiveData<T> {
    private val observers = mutableListOf<Pair<ComponentActivity, Observer<in T>>>()
    protected var held: T? = null

    open val value: T?
        get() = held

    open fun observe(
        owner: LifecycleOwner,
        observer: Observer<in T>,
    ) {
        observers += owner as ComponentActivity to observer
        held?.let(observer::onChanged)
    }

    protected fun tell(value: T) {
        held = value
        observers.filterNot { it.first.destroyed }.forEach { it.second.onChanged(value) }
    }
}

open class MutableLiveData<T>(
    value: T,
) : LiveData<T>() {
    init {
        held = value
    }

    open fun postValue(value: T): Unit = Phone.MAIN.execute { tell(value) }
}

class SavedStateHandle {
    private val held = mutableMapOf<String, Any?>()

    @Suppress("UNCHECKED_CAST")
    operator fun <T> get(key: String): T? = held[key] as T?

    operator fun <T> set(
        key: String,
        value: T?,
    ) {
        held[key] = value
    }
}
