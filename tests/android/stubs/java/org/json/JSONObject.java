// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package org.json;

import androidx.annotation.NonNull;

public class JSONObject {
    public JSONObject(@NonNull String json) throws JSONException {}
    @NonNull public native JSONObject getJSONObject(@NonNull String name) throws JSONException;
    @NonNull public native JSONArray getJSONArray(@NonNull String name) throws JSONException;
    @NonNull public native String getString(@NonNull String name) throws JSONException;
    public native double getDouble(@NonNull String name) throws JSONException;
    public native int getInt(@NonNull String name) throws JSONException;
}
