// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package android.content.res;

import java.io.Closeable;
import java.io.FileDescriptor;
import java.io.IOException;

public class AssetFileDescriptor implements Closeable {
    public native FileDescriptor getFileDescriptor();
    public native long getStartOffset();
    public native long getDeclaredLength();
    @Override public void close() throws IOException {}
}
