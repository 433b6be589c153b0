// Fake: it does on a desktop's Java what the real class does, as far as the app's screen goes, for a test.
package android.content;

import android.net.Uri;
import java.io.File;

/** A photograph that another app gives out. */
public final class FileUri extends Uri {
    final File file;

    public FileUri(String path) {
        file = new File(path);
    }

    @Override
    public String toString() {
        return "content://" + file.getName();
    }
}
