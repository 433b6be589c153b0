// Fake: it does on a desktop's Java what the real class does, as far as the app's screen goes, for a test.
package fake;

import java.io.File;
import java.lang.reflect.Field;
import java.util.concurrent.Executor;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import javax.xml.parsers.DocumentBuilderFactory;
import org.w3c.dom.Element;
import org.w3c.dom.NodeList;

/** The state of the device: files, the camera, the main thread's queue, the app's resources. */
public final class Phone {
    private static final File RES = new File(System.getProperty("phone.res"));
    private static final LinkedBlockingQueue<Runnable> QUEUE = new LinkedBlockingQueue<>();
    private static final long SECONDS = 30;

    /** Holds assets/ and cache/. */
    public static final File HOME = new File(System.getProperty("phone.home"));
    public static final Executor MAIN = QUEUE::add;
    public static boolean cameraAllowed;
    /** What the camera sees; null for a device without one. */
    public static File view;
    public static boolean cameraBusy;

    private Phone() {}

    /** Works the main thread's queue off until nothing is left and `idle` holds. */
    public static void settle(BooleanSupplier idle) throws InterruptedException {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(SECONDS);
        while (true) {
            Runnable next = QUEUE.poll(50, TimeUnit.MILLISECONDS);
            if (next != null) {
                next.run();
            } else if (idle.getAsBoolean()) {
                return;
            } else if (System.nanoTime() > end) {
                throw new IllegalStateException("busy for ever");
            }
        }
    }

    public static String name(String kind, int id) {
        for (Field field : fields(kind)) {
            if (number(field) == id) {
                return field.getName();
            }
        }
        throw new IllegalArgumentException(kind + " " + id);
    }

    public static int id(String kind, String name) {
        for (Field field : fields(kind)) {
            if (field.getName().equals(name)) {
                return number(field);
            }
        }
        throw new IllegalArgumentException(kind + " " + name);
    }

    private static Field[] fields(String kind) {
        try {
            return Class.forName("com.example.classifier.R$" + kind).getFields();
        } catch (ClassNotFoundException error) {
            throw new IllegalArgumentException(error);
        }
    }

    private static int number(Field field) {
        try {
            return field.getInt(null);
        } catch (IllegalAccessException error) {
            throw new IllegalStateException(error);
        }
    }

    public static String string(String name) {
        NodeList all = xml("values/strings.xml").getElementsByTagName("string");
        for (int at = 0; at < all.getLength(); at++) {
            Element entry = (Element) all.item(at);
            if (entry.getAttribute("name").equals(name)) {
                return entry.getTextContent().replace("\\'", "'").replace("\\\"", "\"");
            }
        }
        throw new IllegalArgumentException(name);
    }

    public static Element xml(String path) {
        try {
            DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
            return factory.newDocumentBuilder().parse(new File(RES, path)).getDocumentElement();
        } catch (Exception error) {
            throw new IllegalStateException(path, error);
        }
    }
}
