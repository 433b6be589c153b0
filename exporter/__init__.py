"""From a trained image classifier to files for a phone, each proven against the model."""

__version__ = "0.1.0"
