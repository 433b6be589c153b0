// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package androidx.core.graphics;

public final class Insets {
    private Insets() {}
    public final int left = 0;
    public final int top = 0;
    public final int right = 0;
    public final int bottom = 0;
}
