// Fake: it does on a desktop's Java what Android's class does, as far as Photo.kt goes, for a test.
package android.os;

public class Build {
    public static class VERSION {
        public static final int SDK_INT = Integer.getInteger("android.sdk", 34);
    }

    public static class VERSION_CODES {
        public static final int O = 26;
    }
}
