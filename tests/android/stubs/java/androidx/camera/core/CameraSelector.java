// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package androidx.camera.core;

import androidx.annotation.NonNull;

public final class CameraSelector {
    @NonNull public static final CameraSelector DEFAULT_FRONT_CAMERA = new CameraSelector();
    @NonNull public static final CameraSelector DEFAULT_BACK_CAMERA = new CameraSelector();
}
