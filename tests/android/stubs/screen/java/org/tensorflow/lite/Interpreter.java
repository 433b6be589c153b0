// Fake: it does on a desktop's Java what the real class does, as far as the app's screen goes, for a test.
package org.tensorflow.lite;

import fake.Phone;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;

/** Gives the numbers of the file `output`, whatever goes in. */
public final class Interpreter implements AutoCloseable {
    public static class Options {
        public Options setNumThreads(int threads) {
            return this;
        }
    }

    public Interpreter(ByteBuffer model, Options options) {
        if (!model.isDirect()) {
            throw new IllegalArgumentException("the model is not mapped");
        }
        if (new File(Phone.HOME, "no_native_library").exists()) {
            throw new UnsatisfiedLinkError("no liblitert for this processor");
        }
    }

    public void run(Object input, Object output) {
        try {
            String text = new String(Files.readAllBytes(Phone.HOME.toPath().resolve("output")));
            int at = 0;
            for (String number : text.trim().split(" ")) {
                ((ByteBuffer) output).putFloat(at, Float.parseFloat(number));
                at += 4;
            }
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
    }

    @Override
    public void close() {}
}
