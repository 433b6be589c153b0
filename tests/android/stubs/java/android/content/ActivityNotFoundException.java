// Stub: just what android_demo uses of this class, for a type check. It proves our spelling, not Google's.
package android.content;

public class ActivityNotFoundException extends RuntimeException {}
