// Fake: it does on a desktop's Java what the real class does, as far as the app's screen goes, for a test.
package androidx.camera.view;

import android.content.Context;
import androidx.lifecycle.LifecycleOwner;
import fake.Phone;

public final class LifecycleCameraController extends CameraController {
    public LifecycleCameraController(Context context) {}

    public void bindToLifecycle(LifecycleOwner owner) {
        if (Phone.cameraBusy) {
            throw new IllegalStateException("another app has the camera");
        }
    }

    public void unbind() {}
}
