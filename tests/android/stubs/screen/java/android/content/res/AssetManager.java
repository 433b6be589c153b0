// Fake: it does on a desktop's Java what the real class does, as far as the app's screen goes, for a test.
package android.content.res;

import fake.Phone;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.InputStream;

public final class AssetManager implements AutoCloseable {
    private final File folder = new File(Phone.HOME, "assets");

    public InputStream open(String name) throws IOException {
        return new FileInputStream(new File(folder, name));
    }

    /** A file with this neighbour was packed compressed. */
    public AssetFileDescriptor openFd(String name) throws IOException {
        if (new File(folder, name + ".compressed").exists()) {
            throw new FileNotFoundException("probably compressed");
        }
        return new AssetFileDescriptor(new File(folder, name));
    }

    public String[] list(String path) throws IOException {
        return folder.list();
    }

    @Override
    public void close() {}
}
