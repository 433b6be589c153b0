// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package android.app;

import android.content.Context;
import android.os.Bundle;
import android.view.View;
import androidx.annotation.Nullable;

public class Activity extends Context {
    protected void onCreate(@Nullable Bundle savedInstanceState) {}
    public void setContentView(int layoutResID) {}
    public native <T extends View> T findViewById(int id);
}
