package com.example.classifier

import android.Manifest
import android.content.ActivityNotFoundException
import android.content.pm.PackageManager
import android.net.Uri
import android.os.Bundle
import android.view.LayoutInflater
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.ImageView
import android.widget.LinearLayout
import android.widget.ProgressBar
import android.widget.TextView
import androidx.activity.ComponentActivity
import androidx.activity.enableEdgeToEdge
import androidx.activity.result.PickVisualMediaRequest
import androidx.activity.result.contract.ActivityResultContracts.PickVisualMedia
import androidx.activity.result.contract.ActivityResultContracts.RequestPermission
import androidx.activity.viewModels
import androidx.camera.view.PreviewView
import androidx.core.content.ContextCompat
import androidx.core.view.ViewCompat
import androidx.core.view.WindowInsetsCompat
import com.example.classifier.core.Ranked
import com.example.classifier.core.Venomous
import java.text.NumberFormat

/** The one screen. It draws what [ClassifierViewModel] says and passes on what is tapped. */
class MainActivity : ComponentActivity() {
    private val model: ClassifierViewModel by viewModels()
    private lateinit var camera: Camera
    private lateinit var preview: PreviewView
    private lateinit var photograph: ImageView
    private lateinit var hint: TextView
    private lateinit var busy: ProgressBar
    private lateinit var takePhoto: Button
    private lateinit var choosePhoto: Button
    private lateinit var headline: TextView
    private lateinit var explanation: TextView
    private lateinit var species: LinearLayout
    private lateinit var latency: TextView

    private val picker =
        registerForActivityResult(PickVisualMedia()) { source: Uri? ->
            if (source != null) model.choose(source)
        }

    private val permission =
        registerForActivityResult(RequestPermission()) { granted: Boolean ->
            if (granted) model.showCamera() else model.show(Problem(R.string.camera_refused))
        }

    override fun onCreate(savedInstanceState: Bundle?) {
        enableEdgeToEdge()
        super.onCreate(savedInstanceState)
        setContentView(R.layout.activity_main)
        findViews()
        keepClearOfSystemBars(findViewById(R.id.root))
        camera = Camera(this, preview) { model.show(it) }
        takePhoto.setOnClickListener { if (isLive(model.screen.value)) take() else open() }
        choosePhoto.setOnClickListener { choose() }
        model.screen.observe(this) { draw(it) }
    }

    private fun findViews() {
        preview = findViewById(R.id.preview)
        photograph = findViewById(R.id.photograph)
        hint = findViewById(R.id.picture_hint)
        busy = findViewById(R.id.busy)
        takePhoto = findViewById(R.id.take_photo)
        choosePhoto = findViewById(R.id.choose_photo)
        headline = findViewById(R.id.headline)
        explanation = findViewById(R.id.explanation)
        species = findViewById(R.id.species)
        latency = findViewById(R.id.latency)
    }

    private fun keepClearOfSystemBars(root: View) {
        ViewCompat.setOnApplyWindowInsetsListener(root) { view, insets ->
            val kinds =
                WindowInsetsCompat.Type.systemBars() or WindowInsetsCompat.Type.displayCutout()
            val bars = insets.getInsets(kinds)
            view.setPadding(bars.left, bars.top, bars.right, bars.bottom)
            WindowInsetsCompat.CONSUMED
        }
    }

    private fun mayUseCamera(): Boolean =
        ContextCompat.checkSelfPermission(this, Manifest.permission.CAMERA) ==
            PackageManager.PERMISSION_GRANTED

    /** The permission may have been taken back since the camera was opened. */
    private fun isLive(screen: Screen?): Boolean = screen?.camera == true && mayUseCamera()

    private fun open() {
        if (mayUseCamera()) model.showCamera() else permission.launch(Manifest.permission.CAMERA)
    }

    private fun choose() {
        try {
            picker.launch(PickVisualMediaRequest(PickVisualMedia.ImageOnly))
        } catch (_: ActivityNotFoundException) {
            model.show(Problem(R.string.no_picker))
        }
    }

    private fun take() {
        model.startsCapture()
        camera.take(model.photograph) { model.judge() }
    }

    private fun draw(screen: Screen) {
        val live = isLive(screen)
        if (live) camera.start() else camera.stop()
        preview.show(live)
        photograph.setImageBitmap(screen.picture)
        photograph.show(!live && screen.picture != null)
        hint.show(!live && screen.picture == null)
        busy.show(screen.busy)
        takePhoto.setText(if (live) R.string.take_photo else R.string.open_camera)
        takePhoto.isEnabled = screen.ready && !screen.busy
        choosePhoto.isEnabled = screen.ready && !screen.busy
        species.removeAllViews()
        latency.text = null
        val result = screen.result
        when {
            screen.problem != null -> say(getString(screen.problem.text), screen.problem.detail)
            result != null -> draw(result)
            screen.busy -> say(getString(if (screen.ready) R.string.working else R.string.loading))
            else -> say(getString(R.string.prompt))
        }
    }

    private fun draw(result: Finding) {
        val present = result.timed.answer.present
        val first = result.species.first()
        val percent = percent(first.probability.toDouble())
        if (present.isEmpty()) {
            say(getString(R.string.not_sure), whyNotSure(result.threshold))
        } else if (present.size > 1) {
            val names = present.joinToString { it.label.name }
            say(getString(R.string.answer_several, present.size, names), worst(present, result))
        } else if (result.marksVenom) {
            val mark = getString(VenomMark.of(first.label.venomous).text)
            say(getString(R.string.answer_sure_marked, first.label.name, percent, mark))
        } else {
            say(getString(R.string.answer_sure, first.label.name, percent))
        }
        result.species.forEach { species.addView(row(it, result.marksVenom, species)) }
        latency.text = measured(result)
    }

    private fun whyNotSure(threshold: Double?): String =
        if (threshold == null) {
            getString(R.string.not_sure_why_own)
        } else {
            getString(R.string.not_sure_why, percent(threshold))
        }

    /** Of several species, one venomous one is what matters. */
    private fun worst(
        present: List<Ranked>,
        result: Finding,
    ): String? {
        if (!result.marksVenom) return null
        val venom = present.map { it.label.venomous }
        val worst = listOf(Venomous.YES, Venomous.UNKNOWN, Venomous.NO).first { it in venom }
        return getString(VenomMark.of(worst).text)
    }

    private fun row(
        found: Ranked,
        marked: Boolean,
        parent: ViewGroup,
    ): View {
        val row = LayoutInflater.from(this).inflate(R.layout.row_species, parent, false)
        val percent = percent(found.probability.toDouble())
        val mark = if (marked) VenomMark.of(found.label.venomous) else null
        row.findViewById<TextView>(R.id.name).text = found.label.name
        row.findViewById<TextView>(R.id.probability).text = percent
        val scientific = row.findViewById<TextView>(R.id.scientific_name)
        scientific.text = found.label.scientificName
        scientific.show(found.label.scientificName != null)
        val icon = row.findViewById<ImageView>(R.id.mark)
        val word = row.findViewById<TextView>(R.id.venomous)
        icon.show(mark != null)
        word.show(mark != null)
        if (mark != null) {
            val color = ContextCompat.getColor(this, mark.color)
            icon.setImageResource(mark.icon)
            icon.setColorFilter(color)
            word.setText(mark.text)
            word.setTextColor(color)
        }
        val spoken =
            listOfNotNull(
                found.label.name,
                found.label.scientificName,
                mark?.let { getString(it.text) },
                percent,
            )
        row.contentDescription = spoken.joinToString(". ")
        return row
    }

    private fun measured(result: Finding): String {
        val timed = result.timed
        val line =
            getString(
                R.string.latency,
                timed.preprocessMs,
                timed.inferenceMs,
                result.threads,
                result.file,
            )
        if (result.sample == 1) return line
        return line + "\n" + getString(R.string.sampled, result.megapixels, result.sample)
    }

    private fun say(
        what: String,
        why: String? = null,
    ) {
        headline.text = what
        explanation.text = why
        explanation.show(why != null)
    }

    private fun percent(share: Double): String {
        val format = NumberFormat.getPercentInstance()
        format.maximumFractionDigits = 1
        return format.format(share)
    }

    private fun View.show(visible: Boolean) {
        visibility = if (visible) View.VISIBLE else View.GONE
    }
}
