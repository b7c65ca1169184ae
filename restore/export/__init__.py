"""`restore export`: the one-step methods as ONNX files for other programs."""

# Tasks that are one call of a network, and formats of the file.
TASKS = ("sr", "denoise")
FORMATS = ("onnx",)
