// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package android.content.res;

import androidx.annotation.NonNull;
import androidx.annotation.Nullable;
import java.io.IOException;
import java.io.InputStream;

public final class AssetManager implements AutoCloseable {
    private AssetManager() {}
    @NonNull public native InputStream open(@NonNull String fileName) throws IOException;
    @NonNull public native AssetFileDescriptor openFd(@NonNull String fileName) throws IOException;
    @Nullable public native String[] list(@NonNull String path) throws IOException;
    @Override public void close() {}
}
