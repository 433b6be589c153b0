package com.example.classifier.core

private val INPUT_TYPES = setOf(TensorType.UINT8, TensorType.INT8, TensorType.FLOAT32)
private val OUTPUT_TYPES = INPUT_TYPES

/**
 * Refuses a model and a contract that do not belong together.
 *
 * Name and threshold may differ from those inside the file: an app may move them.
 *
 * @throws ModelException a tensor's type is not known here.
 * @throws ContractException the two disagree; the message says what each of them says.
 */
internal fun checkAgreement(
    info: ModelInfo,
    contract: Contract,
) {
    checkTypes(info)
    val rule = contract.preprocessing
    val wanted = listOf(1, rule.height, rule.width, CHANNELS)
    if (info.input.shape != wanted) {
        disagree("takes ${info.input.shape}", "says $wanted (1, height, width, 3)")
    }
    val classes = info.output.shape.fold(1L) { product, size -> product * size }
    val leading = info.output.shape.dropLast(1)
    if (classes != contract.labels.size.toLong() || leading.any { it != 1 }) {
        disagree("gives ${info.output.shape}", "has ${contract.labels.size} labels")
    }
    info.labels?.let { compareLabels(it, contract.labels.map(Label::name)) }
    info.contract?.let { compareContracts(it, contract) }
}

private fun disagree(
    model: String,
    contract: String,
): Nothing = throw ContractException("the model $model, the contract $contract: not of one export")

private fun checkTypes(info: ModelInfo) {
    if (info.input.type !in INPUT_TYPES) {
        throw ModelException("the model's input is ${info.input.type}, known are $INPUT_TYPES")
    }
    if (info.output.type !in OUTPUT_TYPES) {
        throw ModelException("the model's output is ${info.output.type}, known are $OUTPUT_TYPES")
    }
    val output = info.output
    val quantized = output.type != TensorType.FLOAT32
    if (quantized && !(output.scale > 0 && output.scale.isFinite())) {
        throw ModelException("the model's output is ${output.type} with the scale ${output.scale}")
    }
}

private fun compareLabels(
    ofModel: List<String>,
    ofContract: List<String>,
) {
    if (ofModel.size != ofContract.size) {
        disagree("holds ${ofModel.size} labels", "has ${ofContract.size}")
    }
    val place = ofModel.indices.firstOrNull { ofModel[it] != ofContract[it] } ?: return
    disagree("calls class $place '${ofModel[place]}'", "calls it '${ofContract[place]}'")
}

private fun compareContracts(
    inside: Contract,
    given: Contract,
) {
    compareLabels(inside.labels.map(Label::name), given.labels.map(Label::name))
    val place = inside.labels.indices.firstOrNull { inside.labels[it] != given.labels[it] }
    if (place != null) {
        disagree("holds ${inside.labels[place]}", "says ${given.labels[place]}")
    }
    if (inside.preprocessing != given.preprocessing) {
        disagree("was made for ${inside.preprocessing}", "says ${given.preprocessing}")
    }
    if (inside.activation != given.activation) {
        disagree("gives ${inside.activation}", "says ${given.activation}")
    }
}
