// Fake: it does on a desktop's Java what the real class does, as far as the app's screen goes, for a test.
package androidx.camera.view;

import androidx.camera.core.CameraSelector;
import androidx.camera.core.ImageCapture;
import androidx.camera.core.ImageCaptureException;
import com.google.common.util.concurrent.ListenableFuture;
import fake.Phone;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.StandardCopyOption;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;

public abstract class CameraController {
    public static final int IMAGE_CAPTURE = 1;

    private static final class Ready extends CompletableFuture<Void>
            implements ListenableFuture<Void> {
        @Override
        public void addListener(Runnable listener, Executor executor) {
            executor.execute(listener);
        }
    }

    public void setEnabledUseCases(int useCases) {}

    public ListenableFuture<Void> getInitializationFuture() {
        Ready ready = new Ready();
        ready.complete(null);
        return ready;
    }

    public boolean hasCamera(CameraSelector selector) {
        return Phone.view != null;
    }

    public void setCameraSelector(CameraSelector selector) {}

    public void setImageCaptureMode(int mode) {}

    public void takePicture(
            ImageCapture.OutputFileOptions options,
            Executor executor,
            ImageCapture.OnImageSavedCallback callback) {
        try {
            Files.copy(
                    Phone.view.toPath(), options.file.toPath(), StandardCopyOption.REPLACE_EXISTING);
            executor.execute(() -> callback.onImageSaved(new ImageCapture.OutputFileResults()));
        } catch (IOException error) {
            executor.execute(() -> callback.onError(new ImageCaptureException()));
        }
    }
}
