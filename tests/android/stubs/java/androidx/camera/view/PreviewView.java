// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package androidx.camera.view;

import android.widget.FrameLayout;
import androidx.annotation.Nullable;

public final class PreviewView extends FrameLayout {
    public void setController(@Nullable CameraController cameraController) {}
    @Nullable public native CameraController getController();
}
