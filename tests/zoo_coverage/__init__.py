"""What goes through: every architecture of the zoo, and ONNX files that people bring."""
