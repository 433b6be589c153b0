// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package android.view;

public abstract class ViewGroup extends View {
    public void addView(View child) {}
    public void removeAllViews() {}
}
