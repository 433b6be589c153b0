// Fake: it does on a desktop's Java what the real class does, as far as the app's screen goes, for a test.
package android.widget;

import android.view.View;
import fake.Phone;

public class TextView extends View {
    private CharSequence text = "";

    public final void setText(CharSequence text) {
        this.text = text == null ? "" : text;
    }

    public final void setText(int id) {
        setText(Phone.string(Phone.name("string", id)));
    }

    public CharSequence getText() {
        return text;
    }

    public void setTextColor(int color) {}

    @Override
    protected String seen() {
        return text.toString();
    }
}
