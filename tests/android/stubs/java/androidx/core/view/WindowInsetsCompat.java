// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package androidx.core.view;

import androidx.core.graphics.Insets;
import androidx.annotation.NonNull;

public class WindowInsetsCompat {
    @NonNull public static final WindowInsetsCompat CONSUMED = new WindowInsetsCompat();
    @NonNull public native Insets getInsets(int typeMask);
    public static final class Type {
        public static native int systemBars();
        public static native int displayCutout();
    }
}
