package com.example.classifier.core

/** What cannot be used, in a sentence that a developer can act on. */
sealed class ClassifierException(
    message: String,
) : Exception(message)

/** A model file that is damaged or that this code cannot run. */
class ModelException(
    message: String,
) : ClassifierException(message)

/** A contract that is damaged, or that does not belong to the model. */
class ContractException(
    message: String,
) : ClassifierException(message)

/** A picture whose sizes make no sense. */
class ImageException(
    message: String,
) : ClassifierException(message)
