// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package android.view;

import androidx.annotation.Nullable;

public class View {
    public static final int VISIBLE = 0;
    public static final int INVISIBLE = 4;
    public static final int GONE = 8;
    public interface OnClickListener { void onClick(View v); }
    public final native <T extends View> T findViewById(int id);
    public void setOnClickListener(@Nullable OnClickListener l) {}
    public void setEnabled(boolean enabled) {}
    public native boolean isEnabled();
    public void setVisibility(int visibility) {}
    public native int getVisibility();
    public void setPadding(int left, int top, int right, int bottom) {}
    public void setContentDescription(CharSequence contentDescription) {}
    public native CharSequence getContentDescription();
}
