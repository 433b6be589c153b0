// Fake: it does on a desktop's Java what the real class does, as far as the app's screen goes, for a test.
package android.content;

import android.net.Uri;
import java.io.FileInputStream;
import java.io.FileNotFoundException;
import java.io.InputStream;

public abstract class ContentResolver {
    public final InputStream openInputStream(Uri uri) throws FileNotFoundException {
        return new FileInputStream(((FileUri) uri).file);
    }
}
