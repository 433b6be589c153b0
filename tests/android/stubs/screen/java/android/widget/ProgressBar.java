// Fake: it does on a desktop's Java what the real class does, as far as the app's screen goes, for a test.
package android.widget;

import android.view.View;

public class ProgressBar extends View {
    @Override
    protected String seen() {
        return "a circle that turns";
    }
}
