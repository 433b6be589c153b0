// The Kotlin plugin is named here so that the Android plugin's built-in Kotlin takes its version.
plugins {
    alias(libs.plugins.android.application) apply false
    alias(libs.plugins.kotlin.jvm) apply false
}
