// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package androidx.camera.core;

import androidx.annotation.NonNull;
import java.io.File;

public final class ImageCapture {
    public static final int CAPTURE_MODE_MAXIMIZE_QUALITY = 0;
    public static final int CAPTURE_MODE_MINIMIZE_LATENCY = 1;
    public interface OnImageSavedCallback {
        void onImageSaved(@NonNull OutputFileResults outputFileResults);
        void onError(@NonNull ImageCaptureException exception);
    }
    public static class OutputFileResults {}
    public static final class OutputFileOptions {
        public static final class Builder {
            public Builder(@NonNull File file) {}
            @NonNull public native OutputFileOptions build();
        }
    }
}
