package com.example.classifier

import android.graphics.Bitmap
import androidx.annotation.StringRes
import com.example.classifier.core.Ranked

/**
 * Something that went wrong, as text for a person.
 *
 * @property text says what to do
 * @property detail what the library or the contract check said, if anything
 */
data class Problem(
    @param:StringRes val text: Int,
    val detail: String? = null,
)

/**
 * What was found on one photograph.
 *
 * @property species what to list, the most probable first
 * @property threshold below it the answer is 'not sure', 0 to 1; null where each class has its own
 * @property marksVenom whether the contract says of any species if it is venomous
 */
class Finding(
    val timed: TimedAnswer,
    val species: List<Ranked>,
    val threshold: Double?,
    val marksVenom: Boolean,
    val threads: Int,
    val file: String,
    val sample: Int,
    val megapixels: Double,
)

/** Everything that the one screen shows; the activity draws it and keeps nothing itself. */
data class Screen(
    val ready: Boolean = false,
    val busy: Boolean = true,
    val camera: Boolean = false,
    val picture: Bitmap? = null,
    val result: Finding? = null,
    val problem: Problem? = null,
)
