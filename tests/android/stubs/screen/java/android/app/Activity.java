// Fake: it does on a desktop's Java what the real class does, as far as the app's screen goes, for a test.
package android.app;

import android.content.Context;
import android.os.Bundle;
import android.view.LayoutInflater;
import android.view.View;

public class Activity extends Context {
    public View content;

    public void create() {
        onCreate(null);
    }

    protected void onCreate(Bundle saved) {}

    public void setContentView(int layout) {
        content = LayoutInflater.from(this).inflate(layout, null, false);
    }

    public <T extends View> T findViewById(int id) {
        return content.findViewById(id);
    }
}
