plugins {
    alias(libs.plugins.android.application)
}

val sdk = libs.versions

android {
    namespace = "com.example.classifier"
    compileSdk = sdk.compileSdk.get().toInt()

    defaultConfig {
        applicationId = "com.example.classifier"
        minSdk = sdk.minSdk.get().toInt()
        targetSdk = sdk.targetSdk.get().toInt()
        versionCode = 1
        versionName = "1.0"
        testInstrumentationRunner = "androidx.test.runner.AndroidJUnitRunner"
        // Phones of 64 and 32 bits, and the emulator. An app bundle is split by ABI in the store;
        // for an APK by hand, one of these is enough and smaller.
        ndk { abiFilters += listOf("arm64-v8a", "armeabi-v7a", "x86_64") }
    }

    buildTypes {
        release {
            isMinifyEnabled = true
            isShrinkResources = true
            proguardFiles(
                getDefaultProguardFile("proguard-android-optimize.txt"),
                "proguard-rules.pro",
            )
        }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }

    // The model is mapped into memory straight from the APK, so it has to lie there uncompressed.
    androidResources { noCompress += "tflite" }

    // Native libraries stay uncompressed and page-aligned in the APK and are mapped from there:
    // what phones with 16 KB pages need, together with libraries that were linked for them.
    packaging { jniLibs { useLegacyPackaging = false } }

    testOptions { unitTests.isReturnDefaultValues = true }

    lint {
        warningsAsErrors = false
        abortOnError = true
    }
}

dependencies {
    implementation(project(":core"))
    implementation(libs.litert)
    implementation(libs.androidx.activity)
    implementation(libs.androidx.core)
    implementation(libs.androidx.lifecycle.livedata)
    implementation(libs.androidx.lifecycle.savedstate)
    implementation(libs.androidx.camera.camera2)
    implementation(libs.androidx.camera.lifecycle)
    implementation(libs.androidx.camera.view)

    testImplementation(libs.junit)
    androidTestImplementation(libs.junit)
    androidTestImplementation(libs.androidx.test.ext.junit)
    androidTestImplementation(libs.androidx.test.runner)
}
