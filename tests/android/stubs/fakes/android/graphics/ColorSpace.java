// Fake: it does on a desktop's Java what Android's class does, as far as Photo.kt goes, for a test.
package android.graphics;

public final class ColorSpace {
    public enum Named { SRGB, DISPLAY_P3 }

    private static final ColorSpace SRGB = new ColorSpace();
    private static final ColorSpace DISPLAY_P3 = new ColorSpace();

    public static ColorSpace get(Named name) {
        return name == Named.SRGB ? SRGB : DISPLAY_P3;
    }
}
