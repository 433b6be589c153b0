// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package androidx.lifecycle;

/** In Kotlin in the real library; in Java here, because Java stubs name it. */
public interface LifecycleOwner {}
