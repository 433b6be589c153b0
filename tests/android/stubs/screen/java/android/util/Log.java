// Fake: it does on a desktop's Java what the real class does, as far as the app's screen goes, for a test.
package android.util;

public final class Log {
    private Log() {}

    public static int w(String tag, String text) {
        System.err.println(text);
        return 0;
    }

    public static int w(String tag, String text, Throwable error) {
        error.printStackTrace();
        return 0;
    }
}
