// Fake: it does on a desktop's Java what Android's class does, as far as Photo.kt goes, for a test.
package android.graphics;

import java.awt.image.BufferedImage;

public final class Bitmap {
    public enum Config { ARGB_8888 }

    private final BufferedImage image;
    private boolean recycled;

    Bitmap(BufferedImage image) {
        this.image = image;
    }

    public static Bitmap createBitmap(int[] colors, int width, int height, Config config) {
        BufferedImage made = new BufferedImage(width, height, BufferedImage.TYPE_INT_ARGB);
        made.setRGB(0, 0, width, height, colors, 0, width);
        return new Bitmap(made);
    }

    public int getWidth() {
        return image.getWidth();
    }

    public int getHeight() {
        return image.getHeight();
    }

    public ColorSpace getColorSpace() {
        return ColorSpace.get(ColorSpace.Named.SRGB);
    }

    public void setColorSpace(ColorSpace colorSpace) {
        throw new IllegalStateException("this fake knows sRGB only");
    }

    public void getPixels(int[] to, int offset, int stride, int x, int y, int width, int height) {
        if (recycled) {
            throw new IllegalStateException("recycled");
        }
        image.getRGB(x, y, width, height, to, offset, stride);
    }

    public void recycle() {
        recycled = true;
    }
}
