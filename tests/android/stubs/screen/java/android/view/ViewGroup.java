// Fake: it does on a desktop's Java what the real class does, as far as the app's screen goes, for a test.
package android.view;

import java.util.ArrayList;
import java.util.List;

public abstract class ViewGroup extends View {
    private final List<View> children = new ArrayList<>();

    public void addView(View child) {
        children.add(child);
    }

    public void removeAllViews() {
        children.clear();
    }

    @Override
    protected View find(int id) {
        View found = super.find(id);
        for (View child : children) {
            found = found == null ? child.find(id) : found;
        }
        return found;
    }

    @Override
    public void see(List<String> lines) {
        super.see(lines);
        if (getVisibility() == VISIBLE) {
            children.forEach(child -> child.see(lines));
        }
    }
}
