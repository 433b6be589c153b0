// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package androidx.test.platform.app;

import android.app.Instrumentation;

public final class InstrumentationRegistry {
    private InstrumentationRegistry() {}
    public static native Instrumentation getInstrumentation();
}
