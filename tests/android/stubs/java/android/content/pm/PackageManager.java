// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package android.content.pm;

public abstract class PackageManager {
    public static final int PERMISSION_GRANTED = 0;
    public static final int PERMISSION_DENIED = -1;
}
