package com.example.classifier

import androidx.activity.ComponentActivity
import androidx.camera.core.CameraSelector
import androidx.camera.core.ImageCapture
import androidx.camera.core.ImageCaptureException
import androidx.camera.view.CameraController
import androidx.camera.view.LifecycleCameraController
import androidx.camera.view.PreviewView
import androidx.core.content.ContextCompat
import java.io.File
import java.util.concurrent.ExecutionException

/**
 * CameraX's preview and its photographs, as files with their EXIF orientation.
 *
 * @param failed is told what does not work, on the main thread
 */
class Camera(
    private val activity: ComponentActivity,
    private val preview: PreviewView,
    private val failed: (Problem) -> Unit,
) {
    private var controller: LifecycleCameraController? = null

    /** Shows the preview; the camera permission has been given. Again while it runs does nothing. */
    fun start() {
        if (controller != null) return
        val started = LifecycleCameraController(activity)
        controller = started
        started.setEnabledUseCases(CameraController.IMAGE_CAPTURE)
        started.imageCaptureMode = ImageCapture.CAPTURE_MODE_MAXIMIZE_QUALITY
        val initialized = started.initializationFuture
        initialized.addListener(
            {
                try {
                    initialized.get()
                    if (controller === started) choose(started)
                } catch (error: ExecutionException) {
                    failed(Problem(R.string.no_camera, error.cause?.message))
                } catch (error: IllegalStateException) {
                    failed(Problem(R.string.no_camera, error.message)) // of CameraX, on binding
                }
            },
            ContextCompat.getMainExecutor(activity),
        )
    }

    /** The camera at the back, or else the one at the front. */
    private fun choose(started: LifecycleCameraController) {
        val selector =
            listOf(CameraSelector.DEFAULT_BACK_CAMERA, CameraSelector.DEFAULT_FRONT_CAMERA)
                .firstOrNull { started.hasCamera(it) }
        if (selector == null) {
            failed(Problem(R.string.no_camera))
            return
        }
        started.cameraSelector = selector
        preview.controller = started
        started.bindToLifecycle(activity)
    }

    fun stop() {
        controller?.unbind()
        controller = null
        preview.controller = null
    }

    /** Takes a photograph into `file`, then calls `taken` on the main thread. */
    fun take(
        file: File,
        taken: () -> Unit,
    ) {
        val options = ImageCapture.OutputFileOptions.Builder(file).build()
        val callback =
            object : ImageCapture.OnImageSavedCallback {
                override fun onImageSaved(results: ImageCapture.OutputFileResults) = taken()

                override fun onError(exception: ImageCaptureException) =
                    failed(Problem(R.string.camera_failed, exception.message))
            }
        try {
            val running = controller ?: throw IllegalStateException("the camera is not running")
            running.takePicture(options, ContextCompat.getMainExecutor(activity), callback)
        } catch (error: IllegalStateException) {
            failed(Problem(R.string.camera_failed, error.message))
        }
    }
}
