// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package android.widget;

import android.view.View;

public class TextView extends View {
    public final void setText(CharSequence text) {}
    public final void setText(int resid) {}
    public native CharSequence getText();
    public void setTextColor(int color) {}
}
