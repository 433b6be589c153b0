// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package androidx.core.view;

import android.view.View;
import androidx.annotation.NonNull;

public interface OnApplyWindowInsetsListener {
    @NonNull WindowInsetsCompat onApplyWindowInsets(
            @NonNull View v, @NonNull WindowInsetsCompat insets);
}
