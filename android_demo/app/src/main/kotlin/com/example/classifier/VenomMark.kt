package com.example.classifier

import androidx.annotation.ColorRes
import androidx.annotation.DrawableRes
import androidx.annotation.StringRes
import com.example.classifier.core.Venomous

/** How a species is marked: a word, an icon of its own shape, and a colour that only repeats them. */
enum class VenomMark(
    @param:StringRes val text: Int,
    @param:DrawableRes val icon: Int,
    @param:ColorRes val color: Int,
) {
    VENOMOUS(R.string.venomous_yes, R.drawable.ic_venomous, R.color.danger),
    NOT_VENOMOUS(R.string.venomous_no, R.drawable.ic_not_venomous, R.color.harmless),
    NOT_KNOWN(R.string.venomous_unknown, R.drawable.ic_venom_unknown, R.color.unknown),
    ;

    companion object {
        fun of(venomous: Venomous): VenomMark =
            when (venomous) {
                Venomous.YES -> VENOMOUS
                Venomous.NO -> NOT_VENOMOUS
                Venomous.UNKNOWN -> NOT_KNOWN
            }
    }
}
