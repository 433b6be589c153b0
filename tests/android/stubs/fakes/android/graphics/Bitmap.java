// Fake: it does on a desktop's Java what Android's class does, as far as Photo.kt goes, for a test.
package android.graphics;

import android.os.Build;
import java.awt.image.BufferedImage;
import java.nio.Buffer;
import java.nio.ByteBuffer;

public final class Bitmap {
    public enum Config { ARGB_8888 }

    private final BufferedImage image;
    private final boolean hasProfile;
    private boolean recycled;

    Bitmap(BufferedImage image, boolean hasProfile) {
        this.image = image;
        this.hasProfile = hasProfile;
    }

    public static Bitmap createBitmap(int[] colors, int width, int height, Config config) {
        BufferedImage made = new BufferedImage(width, height, BufferedImage.TYPE_INT_ARGB);
        made.setRGB(0, 0, width, height, colors, 0, width);
        return new Bitmap(made, false);
    }

    public int getWidth() {
        return image.getWidth();
    }

    public int getHeight() {
        return image.getHeight();
    }

    public int getRowBytes() {
        return 4 * image.getWidth() + 8;
    }

    public Config getConfig() {
        return Config.ARGB_8888;
    }

    public ColorSpace getColorSpace() {
        if (Build.VERSION.SDK_INT < 26) {
            throw new NoSuchMethodError("getColorSpace is new in Android 8");
        }
        return ColorSpace.get(hasProfile ? ColorSpace.Named.DISPLAY_P3 : ColorSpace.Named.SRGB);
    }

    /** From Android 8 on a picture with a profile comes out in other colours. */
    public void getPixels(int[] to, int offset, int stride, int x, int y, int width, int height) {
        checkUsable();
        image.getRGB(x, y, width, height, to, offset, stride);
        if (hasProfile && Build.VERSION.SDK_INT >= 26) {
            for (int at = 0; at < to.length; at++) {
                to[at] ^= 0x00010203;
            }
        }
    }

    /** Red, green, blue, alpha as they are stored, some bytes of waste behind each row. */
    public void copyPixelsToBuffer(Buffer to) {
        checkUsable();
        ByteBuffer bytes = (ByteBuffer) to;
        for (int y = 0; y < getHeight(); y++) {
            for (int x = 0; x < getWidth(); x++) {
                int argb = image.getRGB(x, y);
                bytes.putInt(argb << 8 | argb >>> 24);
            }
            bytes.putLong(-1);
        }
    }

    private void checkUsable() {
        if (recycled) {
            throw new IllegalStateException("recycled");
        }
    }

    public void recycle() {
        recycled = true;
    }
}
