// Fake: it does on a desktop's Java what the real class does, as far as the app's screen goes, for a test.
package com.example.classifier

import android.app.Application
import android.content.FileUri
import android.view.View
import androidx.activity.Kept
import androidx.activity.result.contract.ActivityResultContracts.PickVisualMedia
import androidx.activity.result.contract.ActivityResultContracts.RequestPermission
import fake.Phone
import java.io.File

private fun started(): MainActivity = MainActivity().also { it.create() }

private fun begun(): MainActivity {
    Kept.model = null
    Kept.make = { ClassifierViewModel(Application(), Kept.saved) }
    return started()
}

private fun MainActivity.rests(): Boolean {
    val screen = (Kept.model as ClassifierViewModel).screen.value
    return screen?.busy == false && !destroyed
}

/** Does what a person and the system do, and prints what is on the screen after each of it. */
fun main(actions: Array<String>) {
    var activity = begun()
    for (action in actions) {
        val what = action.substringAfter(":")
        when (action.substringBefore(":")) {
            "start" -> {}

            "rotate" -> {
                activity.destroyed = true
                activity = started()
            }

            "kill" -> {
                activity.destroyed = true
                activity = begun()
            }

            "tap" -> {
                activity.findViewById<View>(Phone.id("id", what)).click()
            }

            "picked" -> {
                activity.answer(PickVisualMedia::class.java, FileUri(what))
            }

            "killed-then-picked" -> {
                activity.destroyed = true
                activity = begun()
                activity.answer(PickVisualMedia::class.java, FileUri(what))
            }

            "permission" -> {
                Phone.cameraAllowed = what == "given"
                activity.answer(RequestPermission::class.java, Phone.cameraAllowed)
            }

            "revoked" -> {
                Phone.cameraAllowed = false
            }

            "camera" -> {
                Phone.view = File(what)
            }

            "camera-busy" -> {
                Phone.cameraBusy = true
            }

            else -> {
                error(action)
            }
        }
        Phone.settle { activity.rests() }
        val lines = mutableListOf<String>()
        activity.content.see(lines)
        println("== $action\n" + lines.joinToString("\n"))
    }
    System.exit(0) // the worker's thread would go on
}
