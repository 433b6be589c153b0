// Fake: it does on a desktop's Java what the real class does, as far as the app's screen goes, for a test.
package android.widget;

public class Button extends TextView {
    @Override
    protected String seen() {
        return (isEnabled() ? "[" : "(") + getText() + (isEnabled() ? "]" : ")");
    }
}
