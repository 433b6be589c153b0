// Fake: it does on a desktop's Java what Android's class does, as far as Photo.kt goes, for a test.
package android.graphics;

import java.awt.image.BufferedImage;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import javax.imageio.ImageIO;

public class BitmapFactory {
    public static class Options {
        public boolean inJustDecodeBounds;
        public boolean inPremultiplied = true;
        public boolean inScaled = true;
        public int inSampleSize;
        public int outWidth;
        public int outHeight;
        public Bitmap.Config inPreferredConfig = Bitmap.Config.ARGB_8888;
    }

    /** Null where there is no picture, as on Android. Only what keeps every pixel is allowed. */
    public static Bitmap decodeByteArray(byte[] data, int offset, int length, Options options) {
        BufferedImage image;
        try {
            image = ImageIO.read(new ByteArrayInputStream(data, offset, length));
        } catch (IOException damaged) {
            image = null;
        }
        options.outWidth = image == null ? -1 : image.getWidth();
        options.outHeight = image == null ? -1 : image.getHeight();
        if (options.inJustDecodeBounds || image == null) {
            return null;
        }
        if (options.inPremultiplied || options.inScaled || options.inSampleSize != 1) {
            throw new IllegalStateException("this would not keep every pixel");
        }
        return new Bitmap(image, new String(data, StandardCharsets.ISO_8859_1).contains("iCCP"));
    }
}
