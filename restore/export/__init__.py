"""`restore export`: the one-step methods as ONNX files for other programs."""
