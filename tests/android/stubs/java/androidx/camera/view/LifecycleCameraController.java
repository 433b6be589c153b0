// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package androidx.camera.view;

import android.content.Context;
import androidx.annotation.NonNull;
import androidx.lifecycle.LifecycleOwner;

public final class LifecycleCameraController extends CameraController {
    public LifecycleCameraController(@NonNull Context context) {}
    public void bindToLifecycle(@NonNull LifecycleOwner lifecycleOwner) {}
    public void unbind() {}
}
