// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package android.util;

import androidx.annotation.NonNull;
import androidx.annotation.Nullable;

public final class Log {
    private Log() {}
    public static native int w(@Nullable String tag, @NonNull String msg);
    public static native int w(@Nullable String tag, @Nullable String msg, @Nullable Throwable tr);
}
