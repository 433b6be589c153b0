// Fake: it does on a desktop's Java what the real class does, as far as the app's screen goes, for a test.
package androidx.core.content;

import android.content.Context;
import android.content.pm.PackageManager;
import fake.Phone;
import java.util.concurrent.Executor;

public class ContextCompat {
    public static int checkSelfPermission(Context context, String permission) {
        return Phone.cameraAllowed
                ? PackageManager.PERMISSION_GRANTED
                : PackageManager.PERMISSION_DENIED;
    }

    public static int getColor(Context context, int id) {
        return id;
    }

    public static Executor getMainExecutor(Context context) {
        return Phone.MAIN;
    }
}
