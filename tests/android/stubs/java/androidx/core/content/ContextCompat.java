// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package androidx.core.content;

import android.content.Context;
import androidx.annotation.NonNull;
import java.util.concurrent.Executor;

public class ContextCompat {
    public static native int checkSelfPermission(
            @NonNull Context context, @NonNull String permission);
    public static native int getColor(@NonNull Context context, int id);
    @NonNull public static native Executor getMainExecutor(@NonNull Context context);
}
