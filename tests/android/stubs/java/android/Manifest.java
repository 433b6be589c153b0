// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package android;

public final class Manifest {
    public static final class permission {
        public static final String CAMERA = "android.permission.CAMERA";
    }
}
