"""The stages of an export, in order: check, onnx, calibrate, formats, prove, report."""
