// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package android.graphics;

import androidx.annotation.NonNull;

public abstract class ColorSpace {
    public enum Named { SRGB, DISPLAY_P3 }
    @NonNull public static native ColorSpace get(@NonNull Named name);
}
