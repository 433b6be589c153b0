// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package android.content;

import android.net.Uri;
import androidx.annotation.NonNull;
import androidx.annotation.Nullable;
import java.io.FileNotFoundException;
import java.io.InputStream;

public abstract class ContentResolver {
    @Nullable public final native InputStream openInputStream(
            @NonNull Uri uri) throws FileNotFoundException;
}
