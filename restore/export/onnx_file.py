"""ONNX files: conversion of a module, metadata, and comparison with PyTorch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from restore.errors import Unavailable

if TYPE_CHECKING:
    import onnx

EXTRA = "onnx"

# Version of ONNX's operators: the lowest of PyTorch's exporter; ONNX Runtime has it since 1.14.
OPSET = 18

# Names of the inputs and the output, and of the axes that may have any length.
PICTURE = "input"
NOISE = "noise"
OUTPUT = "output"
AXES = ("height", "width")

# Size (height, width) of the picture with which a module is traced; the file does not depend on it.
TRACED = (20, 28)
# Noise level of that picture, and of those that are compared.
TRACED_NOISE = 0.1

# Initializers of fewer values are no weights, or not worth halving.
LEAST_HALVED = 256


def check_installed() -> None:
    """Refuse to start without the packages of the extra.

    Raises:
        Unavailable: One is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise Unavailable(
            f"restore export needs the package {error.name}; pip install "
            f"'restore-diffusion[{EXTRA}]'"
        ) from None


def converted(graph: nn.Module, scale: int, takes_noise: bool) -> onnx.ModelProto:
    """Convert a module to ONNX, for pictures of any height and width.

    Args:
        graph: A module of `restore.export.graphs`.
        scale: Factor between the sizes of input and output.
        takes_noise: True if a noise level is its second input.
    """
    names = [PICTURE, NOISE] if takes_noise else [PICTURE]
    any_size = {2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    sizes = {name: any_size if name == PICTURE else None for name in names}

    with _quiet_exporter():
        program = torch.onnx.export(
            graph.eval(),
            inputs_of(TRACED, takes_noise),
            input_names=names,
            output_names=[OUTPUT],
            dynamic_shapes=sizes,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )

    assert program is not None
    model = program.model_proto
    _name_axes(model, scale)
    _forget_origin(model)
    return model


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep back what the exporter says of its own work."""
    logger = logging.getLogger("onnxscript")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def inputs_of(size: tuple[int, int], takes_noise: bool, seed: int = 0) -> tuple[Tensor, ...]:
    """Return inputs of random values: a picture (height, width), and a noise level if wanted."""
    picture = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))
    return (picture, torch.tensor([TRACED_NOISE])) if takes_noise else (picture,)


def _name_axes(model: onnx.ModelProto, scale: int) -> None:
    """Name the axes of the picture and the result, as programs ask for them by name."""
    factor = "" if scale == 1 else f"{scale}*"
    for value, before in ((model.graph.input[0], ""), (model.graph.output[0], factor)):
        shape = value.type.tensor_type.shape
        for dim, name in zip(shape.dim[2:], AXES, strict=True):
            dim.dim_param = f"{before}{name}"


def _forget_origin(model: onnx.ModelProto) -> None:
    """Remove what the exporter notes of the source code, with paths of this machine."""
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, graph, model):
        del part.metadata_props[:]
        part.doc_string = ""
    del graph.value_info[:]  # sizes of intermediate results, in symbols of the exporter


def describe(model: onnx.ModelProto, about: Mapping[str, str], producer: str, version: str) -> None:
    """Write metadata into a model, and who made it."""
    import onnx

    model.producer_name = producer
    model.producer_version = version
    model.graph.name = about["name"]
    onnx.helper.set_model_props(model, dict(about))


def halve(model: onnx.ModelProto) -> None:
    """Store the weights in float16; the graph widens them, and computes in float32 as before."""
    import onnx
    from onnx import numpy_helper

    casts = []
    for weights in model.graph.initializer:
        values = numpy_helper.to_array(weights)
        if values.dtype != np.float32 or values.size < LEAST_HALVED:
            continue

        name = weights.name
        weights.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        casts.append(
            onnx.helper.make_node("Cast", [weights.name], [name], to=onnx.TensorProto.FLOAT)
        )

    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def difference(model: bytes, graph: nn.Module, size: tuple[int, int], takes_noise: bool) -> float:
    """Largest difference between ONNX Runtime and PyTorch for a random picture (height, width).

    Args:
        model: Content of the ONNX file.
        graph: The module that it was made of.
        size: Size of the picture.
        takes_noise: True if a noise level is its second input.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    given = inputs_of(size, takes_noise, seed=1)
    with torch.inference_mode():
        expected = graph(*given).numpy()
    fed = {
        one.name: tensor.numpy() for one, tensor in zip(session.get_inputs(), given, strict=True)
    }
    found = session.run([OUTPUT], fed)[0]

    return float(np.abs(found - expected).max())
