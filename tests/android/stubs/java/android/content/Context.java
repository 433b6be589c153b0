// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package android.content;

import androidx.annotation.NonNull;
import android.content.res.AssetManager;
import java.io.File;

public abstract class Context {
    public native AssetManager getAssets();
    public native ContentResolver getContentResolver();
    public native File getCacheDir();
    @NonNull public final native String getString(int resId);
    @NonNull public final native String getString(int resId, Object... formatArgs);
}
