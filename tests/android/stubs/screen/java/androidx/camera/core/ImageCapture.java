// Fake: it does on a desktop's Java what the real class does, as far as the app's screen goes, for a test.
package androidx.camera.core;

import java.io.File;

public final class ImageCapture {
    public static final int CAPTURE_MODE_MAXIMIZE_QUALITY = 0;

    public interface OnImageSavedCallback {
        void onImageSaved(OutputFileResults results);

        void onError(ImageCaptureException exception);
    }

    public static class OutputFileResults {}

    public static final class OutputFileOptions {
        public final File file;

        private OutputFileOptions(File file) {
            this.file = file;
        }

        public static final class Builder {
            private final File file;

            public Builder(File file) {
                this.file = file;
            }

            public OutputFileOptions build() {
                return new OutputFileOptions(file);
            }
        }
    }
}
