// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package org.json;

import androidx.annotation.NonNull;

public class JSONArray {
    public native int length();
    public native double getDouble(int index) throws JSONException;
    @NonNull public native JSONObject getJSONObject(int index) throws JSONException;
}
