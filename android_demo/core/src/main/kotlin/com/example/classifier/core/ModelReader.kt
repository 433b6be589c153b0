package com.example.classifier.core

import java.nio.ByteBuffer

private const val METADATA = "TFLITE_METADATA"
private const val MIN_RUNTIME = "min_runtime_version"
private const val LABELS_FILE = "labels.txt"
private const val CONTRACT_FILE = "contract.json"
private const val AXIS_LABELS = 2 // AssociatedFileType.TENSOR_AXIS_LABELS

/** Slots of the tables of TFLite's schema.fbs that are read here. */
private object Slot {
    const val MODEL_SUBGRAPHS = 2
    const val MODEL_BUFFERS = 4
    const val MODEL_METADATA = 6
    const val SUBGRAPH_TENSORS = 0
    const val SUBGRAPH_INPUTS = 1
    const val SUBGRAPH_OUTPUTS = 2
    const val TENSOR_SHAPE = 0
    const val TENSOR_TYPE = 1
    const val TENSOR_NAME = 3
    const val TENSOR_QUANTIZATION = 4
    const val QUANTIZATION_SCALE = 2
    const val QUANTIZATION_ZERO_POINT = 3
    const val METADATA_NAME = 0
    const val METADATA_BUFFER = 1
    const val BUFFER_DATA = 0

    // metadata_schema.fbs
    const val ABOUT_SUBGRAPHS = 3
    const val ABOUT_FILES = 6
    const val ABOUT_OUTPUTS = 3
    const val ABOUT_TENSOR_FILES = 6
    const val FILE_NAME = 0
    const val FILE_TYPE = 2
}

/** The names of files that the metadata says are packed behind the flatbuffer. */
private class Named(
    val labels: String?,
    val all: List<String>,
)

internal class ModelReader(
    private val bytes: Bytes,
) {
    private val model = Table.root(bytes, "TFL3")
    private val buffers = model.tables(Slot.MODEL_BUFFERS)
    private val metadata =
        model.tables(Slot.MODEL_METADATA).associate { entry ->
            (entry.text(Slot.METADATA_NAME) ?: "") to entry.uint(Slot.METADATA_BUFFER)
        }

    fun read(): ModelInfo {
        buffers.forEach { it.vector(Slot.BUFFER_DATA, 1) } // a file cut short lacks some
        val graph =
            model.tables(Slot.MODEL_SUBGRAPHS).firstOrNull() ?: bytes.damaged("it holds no graph")
        val tensors = graph.tables(Slot.SUBGRAPH_TENSORS)
        val input = edge(tensors, graph.ints(Slot.SUBGRAPH_INPUTS), "input")
        val output = edge(tensors, graph.ints(Slot.SUBGRAPH_OUTPUTS), "output")
        val named = namedFiles()
        val files = AssociatedFiles.find(bytes)
        val contents = named.all.associateWith { files.read(it) ?: missing(it) }
        val labels = contents[named.labels] ?: files.read(LABELS_FILE)
        val contract = contents[CONTRACT_FILE] ?: files.read(CONTRACT_FILE)
        return ModelInfo(
            input = input,
            output = output,
            labels = labels?.let { lines(utf8(it, "the model's labels file")) },
            contract = contract?.let(::parsed),
            minRuntime = blob(MIN_RUNTIME)?.let { utf8(it, "the model").trimEnd('\u0000') },
        )
    }

    private fun missing(name: String): Nothing =
        bytes.damaged("its metadata names $name, which is not packed behind it")

    private fun edge(
        tensors: List<Table>,
        places: List<Int>,
        what: String,
    ): TensorInfo {
        if (places.size != 1) {
            throw ModelException("the model has ${places.size} ${what}s, a classifier has one")
        }
        val tensor =
            tensors.getOrNull(places[0]) ?: bytes.damaged("its $what is not among its tensors")
        val type = tensor.byte(Slot.TENSOR_TYPE)
        val quantization = tensor.table(Slot.TENSOR_QUANTIZATION)
        val zeroPoint = quantization?.longs(Slot.QUANTIZATION_ZERO_POINT)?.firstOrNull() ?: 0L
        return TensorInfo(
            name = tensor.text(Slot.TENSOR_NAME) ?: "",
            type = TensorType.entries.firstOrNull { it.code == type } ?: TensorType.OTHER,
            shape = tensor.ints(Slot.TENSOR_SHAPE),
            scale = quantization?.floats(Slot.QUANTIZATION_SCALE)?.firstOrNull() ?: 0f,
            zeroPoint = zeroPoint.coerceIn(Int.MIN_VALUE.toLong(), Int.MAX_VALUE.toLong()).toInt(),
        )
    }

    private fun blob(name: String): ByteArray? {
        val place = metadata[name] ?: return null
        val buffer =
            buffers.getOrNull(place.coerceAtMost(Int.MAX_VALUE.toLong()).toInt())
                ?: bytes.damaged("its metadata $name is not among its buffers")
        return buffer.blob(Slot.BUFFER_DATA)
    }

    private fun namedFiles(): Named {
        val blob = blob(METADATA) ?: return Named(null, emptyList())
        val root = Table.root(Bytes(ByteBuffer.wrap(blob), "the model's metadata"), "M001")
        val ofOutput =
            root
                .tables(Slot.ABOUT_SUBGRAPHS)
                .firstOrNull()
                ?.tables(Slot.ABOUT_OUTPUTS)
                ?.firstOrNull()
                ?.tables(Slot.ABOUT_TENSOR_FILES)
                .orEmpty()
        val files = root.tables(Slot.ABOUT_FILES) + ofOutput
        return Named(
            labels =
                ofOutput
                    .firstOrNull { it.byte(Slot.FILE_TYPE) == AXIS_LABELS }
                    ?.text(Slot.FILE_NAME),
            all = files.mapNotNull { it.text(Slot.FILE_NAME) },
        )
    }

    /** One name a line; only line feeds part them. */
    private fun lines(text: String): List<String> = text.removeSuffix("\n").split('\n')

    private fun parsed(content: ByteArray): Contract =
        try {
            Contract.parse(utf8(content, "the model's contract.json"))
        } catch (error: ContractException) {
            throw ModelException("the contract inside the model cannot be used: ${error.message}")
        }
}
