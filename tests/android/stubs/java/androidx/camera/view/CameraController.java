// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package androidx.camera.view;

import androidx.camera.core.CameraSelector;
import androidx.camera.core.ImageCapture;
import androidx.annotation.NonNull;
import com.google.common.util.concurrent.ListenableFuture;
import java.util.concurrent.Executor;

public abstract class CameraController {
    public static final int IMAGE_CAPTURE = 1;
    public void setEnabledUseCases(int enabledUseCases) {}
    @NonNull public native ListenableFuture<Void> getInitializationFuture();
    public native boolean hasCamera(@NonNull CameraSelector cameraSelector);
    public void setCameraSelector(@NonNull CameraSelector cameraSelector) {}
    @NonNull public native CameraSelector getCameraSelector();
    public void setImageCaptureMode(int captureMode) {}
    public native int getImageCaptureMode();
    public void takePicture(
            @NonNull ImageCapture.OutputFileOptions outputFileOptions,
            @NonNull Executor executor,
            @NonNull ImageCapture.OnImageSavedCallback imageSavedCallback) {}
}
