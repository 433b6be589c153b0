// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package android.widget;

import android.graphics.Bitmap;
import android.view.View;

public class ImageView extends View {
    public void setImageBitmap(Bitmap bm) {}
    public void setImageResource(int resId) {}
    public final void setColorFilter(int color) {}
}
