// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package org.tensorflow.lite;

import androidx.annotation.NonNull;
import java.nio.ByteBuffer;

public final class Interpreter implements AutoCloseable {
    public static class Options {
        public native Options setNumThreads(int numThreads);
    }
    public Interpreter(@NonNull ByteBuffer byteBuffer, Options options) {}
    public void run(@NonNull Object input, @NonNull Object output) {}
    @Override public void close() {}
}
