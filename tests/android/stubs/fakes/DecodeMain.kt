// Driver: decodes files with the app's own Photo.kt over the fakes beside this file, for a test.
package com.example.classifier

import java.io.File
import java.security.MessageDigest

fun main(arguments: Array<String>) {
    for (path in arguments) {
        val photo =
            try {
                Photo.decode(File(path).readBytes(), applyExif = true)
            } catch (_: NoPictureException) {
                println("no picture")
                continue
            }
        val image = photo.image
        val digest = MessageDigest.getInstance("SHA-256").digest(image.bytes)
        val small = photo.forScreen(longestSide = 64)
        val corner = IntArray(1)
        small.getPixels(corner, 0, 1, 0, 0, 1, 1)
        println(
            "${image.width} ${image.height} " + digest.joinToString("") { "%02x".format(it) } +
                " ${small.width} ${small.height} %06x".format(corner[0] and 0xFFFFFF),
        )
    }
}
