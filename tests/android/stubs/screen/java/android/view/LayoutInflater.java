// Fake: it does on a desktop's Java what the real class does, as far as the app's screen goes, for a test.
package android.view;

import android.content.Context;
import android.widget.Button;
import android.widget.FrameLayout;
import android.widget.ImageView;
import android.widget.LinearLayout;
import android.widget.ProgressBar;
import android.widget.TextView;
import androidx.camera.view.PreviewView;
import fake.Phone;
import org.w3c.dom.Element;
import org.w3c.dom.Node;

/** Reads the app's own layouts. */
public class LayoutInflater {
    public static LayoutInflater from(Context context) {
        return new LayoutInflater();
    }

    public View inflate(int resource, ViewGroup root, boolean attach) {
        return view(Phone.xml("layout/" + Phone.name("layout", resource) + ".xml"));
    }

    private View view(Element element) {
        if (element.getTagName().equals("include")) {
            String layout = element.getAttribute("layout").replace("@", "");
            return view(Phone.xml(layout + ".xml"));
        }
        View made = made(element.getTagName());
        String id = element.getAttribute("android:id");
        made.id = id.isEmpty() ? -1 : Phone.id("id", id.replace("@+id/", ""));
        if (element.getAttribute("android:visibility").equals("gone")) {
            made.setVisibility(View.GONE);
        }
        String text = element.getAttribute("android:text");
        if (!text.isEmpty()) {
            ((TextView) made).setText(Phone.string(text.replace("@string/", "")));
        }
        Node child = element.getFirstChild();
        for (; child != null; child = child.getNextSibling()) {
            if (child instanceof Element) {
                ((ViewGroup) made).addView(view((Element) child));
            }
        }
        return made;
    }

    private static View made(String tag) {
        switch (tag) {
            case "Button":
                return new Button();
            case "TextView":
                return new TextView();
            case "ImageView":
                return new ImageView();
            case "ProgressBar":
                return new ProgressBar();
            case "LinearLayout":
                return new LinearLayout();
            case "FrameLayout":
            case "ScrollView":
                return new FrameLayout();
            case "androidx.camera.view.PreviewView":
                return new PreviewView();
            default:
                throw new IllegalArgumentException("no fake for " + tag);
        }
    }
}
