// Fake: it does on a desktop's Java what the real class does, as far as the app's screen goes, for a test.
package android.view;

import java.util.List;

public class View {
    public static final int VISIBLE = 0;
    public static final int INVISIBLE = 4;
    public static final int GONE = 8;

    public interface OnClickListener {
        void onClick(View v);
    }

    public int id;
    private int visibility;
    private boolean enabled = true;
    private CharSequence description = "";
    private OnClickListener listener;

    @SuppressWarnings("unchecked")
    public final <T extends View> T findViewById(int id) {
        return (T) find(id);
    }

    protected View find(int id) {
        return this.id == id ? this : null;
    }

    /** Adds what a person sees, a line each. */
    public void see(List<String> lines) {
        if (visibility == VISIBLE && !seen().isEmpty()) {
            lines.add(seen());
        }
    }

    protected String seen() {
        return "";
    }

    public void click() {
        if (!enabled) {
            throw new IllegalStateException("it cannot be tapped");
        }
        listener.onClick(this);
    }

    public void setOnClickListener(OnClickListener listener) {
        this.listener = listener;
    }

    public void setEnabled(boolean enabled) {
        this.enabled = enabled;
    }

    public boolean isEnabled() {
        return enabled;
    }

    public void setVisibility(int visibility) {
        this.visibility = visibility;
    }

    public int getVisibility() {
        return visibility;
    }

    public void setPadding(int left, int top, int right, int bottom) {}

    public void setContentDescription(CharSequence description) {
        this.description = description;
    }

    public CharSequence getContentDescription() {
        return description;
    }
}
