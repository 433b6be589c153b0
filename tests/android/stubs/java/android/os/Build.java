// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package android.os;

public class Build {
    public static class VERSION {
        public static final int SDK_INT = Integer.parseInt("0");
    }
    public static class VERSION_CODES {
        public static final int O = 26;
    }
}
