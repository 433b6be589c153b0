// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package android.graphics;

import androidx.annotation.NonNull;
import androidx.annotation.Nullable;
import java.nio.Buffer;

public final class Bitmap {
    private Bitmap() {}
    public enum Config { ALPHA_8, RGB_565, ARGB_4444, ARGB_8888, RGBA_F16, HARDWARE }
    public static native Bitmap createBitmap(
            @NonNull int[] colors, int width, int height, @NonNull Config config);
    public native int getWidth();
    public native int getHeight();
    public native int getRowBytes();
    @NonNull public native Config getConfig();
    @Nullable public native ColorSpace getColorSpace();
    public void copyPixelsToBuffer(@NonNull Buffer dst) {}
    public void getPixels(
            @NonNull int[] pixels, int offset, int stride, int x, int y, int width, int height) {}
    public void recycle() {}
}
