// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package android.graphics;

import androidx.annotation.Nullable;

public class BitmapFactory {
    public static class Options {
        public boolean inJustDecodeBounds;
        public boolean inPremultiplied;
        public boolean inScaled;
        public int inSampleSize;
        public int outWidth;
        public int outHeight;
        public Bitmap.Config inPreferredConfig;
    }
    @Nullable public static native Bitmap decodeByteArray(
            byte[] data, int offset, int length, Options opts);
}
