// Fake: it does on a desktop's Java what the real class does, as far as the app's screen goes, for a test.
package android.content;

import android.content.res.AssetManager;
import fake.Phone;
import java.io.File;
import java.util.Locale;

public abstract class Context {
    public AssetManager getAssets() {
        return new AssetManager();
    }

    public ContentResolver getContentResolver() {
        return new ContentResolver() {};
    }

    public File getCacheDir() {
        return new File(Phone.HOME, "cache");
    }

    public final String getString(int id) {
        return Phone.string(Phone.name("string", id));
    }

    public final String getString(int id, Object... values) {
        return String.format(Locale.US, getString(id), values);
    }
}
