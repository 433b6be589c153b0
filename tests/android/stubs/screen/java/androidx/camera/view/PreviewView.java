// Fake: it does on a desktop's Java what the real class does, as far as the app's screen goes, for a test.
package androidx.camera.view;

import android.widget.FrameLayout;

public final class PreviewView extends FrameLayout {
    private CameraController controller;

    public void setController(CameraController controller) {
        this.controller = controller;
    }

    public CameraController getController() {
        return controller;
    }

    @Override
    protected String seen() {
        return controller == null ? "a black preview" : "the camera's preview";
    }
}
