// Fake: it does on a desktop's Java what the real class does, as far as the app's screen goes, for a test.
@file:JvmName("ActivityResultKt")

package androidx.activity.result

import androidx.activity.result.contract.ActivityResultContracts.PickVisualMedia

class PickVisualMediaRequest internal constructor()

fun PickVisualMediaRequest(mediaType: PickVisualMedia.VisualMediaType): PickVisualMediaRequest =
    PickVisualMediaRequest().also { check(mediaType == PickVisualMedia.ImageOnly) }
