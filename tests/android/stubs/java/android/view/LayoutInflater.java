// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package android.view;

import android.content.Context;
import androidx.annotation.Nullable;

public abstract class LayoutInflater {
    public static native LayoutInflater from(Context context);
    public native View inflate(int resource, @Nullable ViewGroup root, boolean attachToRoot);
}
