// Fake: it does on a desktop's Java what the real class does, as far as the app's screen goes, for a test.
package android.widget;

import android.graphics.Bitmap;
import android.view.View;
import fake.Phone;

public class ImageView extends View {
    private String shown = "";

    public void setImageBitmap(Bitmap picture) {
        shown = picture == null ? "" : "picture " + picture.getWidth() + "x" + picture.getHeight();
    }

    public void setImageResource(int id) {
        shown = "icon " + Phone.name("drawable", id);
    }

    public final void setColorFilter(int color) {}

    @Override
    protected String seen() {
        return shown;
    }
}
