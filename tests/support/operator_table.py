"""Every operator in every kind of size, to be looked at by tests of several rooms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import operators
from operators import (
    Bayer,
    BlockSensing,
    CircularConvolution,
    FunctionOperator,
    Hadamard,
    LinearOperator,
    Mask,
    MaskedColor,
    PaddedConvolution,
    SampledFourier,
    SpectralOperator,
    SymmetricConvolution,
    ValidConvolution,
    batch_of,
    color_mix,
    ddrm_reference,
    downsample,
    gaussian_blur,
    gray,
    kernels,
    masks,
    separable_blur,
)
from operators.overlap_save import OverlapSave
from operators.reference import REFERENCE_NAMES
from operators.resample import reduced_size

Size = tuple[int, int]
Build = Callable[[tuple[int, int, int], torch.dtype], LinearOperator]

SIZES: list[Size] = [(7, 5), (6, 6), (4, 6), (2, 9), (1, 5), (3, 1), (1, 1)]
KERNEL_SIZES: list[Size] = [(7, 11), (8, 8), (9, 4), (1, 7), (5, 1), (1, 1)]
LONG: list[Size] = [(2, 131), (98, 3)]
"""Where matrices along an axis have bands worth multiplying by themselves."""


class Case(NamedTuple):
    """How an operator is made, and how well it is known."""

    build: Build
    """Of the shape (C, H, W) of its pictures (`ValidConvolution`: of its measurement) and a type.
    """
    channels: int = 3
    sizes: list[Size] = SIZES
    fits: Callable[[Size], bool] = lambda size: True
    refusal: str = ""
    """The error's message where it does not fit."""
    float32: float = 1e-5
    """Allowed relative error, see `operators.check`."""
    float64: float = 1e-10

    def at(self, size: Size, dtype: torch.dtype = torch.float32) -> LinearOperator:
        return self.build((self.channels, *size), dtype)

    def largest(self, dtype: torch.dtype = torch.float32) -> LinearOperator:
        """At the first of its sizes that it fits."""
        return self.at(next(size for size in self.sizes if self.fits(size)), dtype)


ITERATIVE = {"float32": 2e-4, "float64": 1e-8}
CUT_TAIL = {"float64": 1e-5}
"""Where singular values below `RANK_TOLERANCE` exist: the decomposition lacks them, A does not."""


# Axes


def _axes() -> Iterator[tuple[str, Case]]:
    yield "identity", Case(lambda shape, dtype: operators.AxesOperator(shape, dtype=dtype))
    for boundary in operators.BOUNDARIES:
        yield (
            f"gaussian blur, {boundary}",
            Case(
                lambda shape, dtype, b=boundary: gaussian_blur(shape, 0.6, boundary=b, dtype=dtype)
            ),
        )
        yield (
            f"lopsided blur longer than the picture, {boundary}",
            Case(
                lambda shape, dtype, b=boundary: separable_blur(
                    shape, TAPS, TAPS[:4], boundary=b, dtype=dtype
                )
            ),
        )
    for kernel in operators.RESAMPLERS:
        yield (
            f"down-sampling by 1.6 and 3, {kernel}",
            Case(
                lambda shape, dtype, k=kernel: downsample(shape, (1.6, 3.0), kernel=k, dtype=dtype)
            ),
        )
    yield (
        "down-sampling to one pixel",
        Case(lambda shape, dtype: downsample(shape, size=(1, 1), dtype=dtype)),
    )
    yield (
        "up-sampling",
        Case(
            lambda shape, dtype: operators.AxesOperator(
                shape, None, *_enlarging(shape), dtype=dtype
            )
        ),
    )
    for boundary in operators.BOUNDARIES:
        yield (
            f"blur without an SVD, {boundary}",
            Case(
                lambda shape, dtype, b=boundary: operators.BandedAxesOperator(
                    shape,
                    None,
                    *(operators.blur_matrix(n, (0.1, 0.75, 0.15), b) for n in shape[1:]),
                    dtype=dtype,
                )
            ),
        )
    yield (
        "down-sampling without an SVD",
        Case(
            lambda shape, dtype: operators.BandedAxesOperator(
                shape,
                None,
                *(operators.resample_matrix(n, reduced_size(n, 2)) for n in shape[1:]),
                dtype=dtype,
            )
        ),
    )
    for boundary in operators.BOUNDARIES:
        yield (
            f"blur of a long picture, {boundary}",
            Case(
                lambda shape, dtype, b=boundary: separable_blur(
                    shape, (0.1, 0.2, 0.55, 0.1, 0.05), boundary=b, dtype=dtype
                ),
                channels=1,
                sizes=LONG,
            ),
        )
    yield (
        "down-sampling of a long picture",
        Case(lambda shape, dtype: downsample(shape, 1.9, dtype=dtype), channels=1, sizes=LONG),
    )
    yield (
        "box blur",
        Case(lambda shape, dtype: operators.box_blur(shape, 4, boundary="mirror", dtype=dtype)),
    )


TAPS = (0.35, 0.05, -0.1, 0.2, 0.1, 0.05, 0.15, 0.05, 0.03, 0.07, 0.05)


def _enlarging(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    _, height, width = shape
    return operators.resample_matrix(height, 2 * height + 1), operators.resample_matrix(
        width, width + 3, "area"
    )


# Convolutions

KERNELS = {
    "delta": np.ones((1, 1)),
    "gaussian": kernels.gaussian(0.5),
    "turned gaussian": kernels.gaussian(0.9, 0.4, 30),
    "motion": kernels.motion(4, 25),
    "curved motion": kernels.curved_motion(5, seed=2),
    "disk": kernels.disk(1.3),
    "odd box": kernels.box(3),
    "even box": kernels.box((2, 4)),
    "random": np.random.default_rng(0).standard_normal((4, 3)),
}
LOPSIDED = np.array([[0.1, 0.2, 0.7], [0.0, 0.1, 0.15]])
CENTRED = np.array([[0.05, 0.1, 0.02], [0.15, 0.6, 0.08]])
"""Both wipe out nothing; a kernel far off its centre has almost an inverse only if the border is
circular.
"""
EVEN_KERNELS = ("delta", "gaussian", "disk", "odd box")


def _convolutions() -> Iterator[tuple[str, Case]]:
    for name, kernel in KERNELS.items():
        rows, columns = kernel.shape
        limits = {
            "channels": 1,
            "sizes": KERNEL_SIZES,
            "fits": lambda size, rows=rows, columns=columns: size[0] >= rows and size[1] >= columns,
            "refusal": (
                rf"the kernel \({rows}x{columns}, height x width\) is larger than the "
                r"picture"
            ),
        }
        yield (
            f"circular convolution, {name}",
            Case(
                lambda shape, dtype, k=kernel: CircularConvolution(shape, k, dtype=dtype), **limits
            ),
        )
        if name in EVEN_KERNELS:
            yield (
                f"symmetric convolution, {name}",
                Case(
                    lambda shape, dtype, k=kernel: SymmetricConvolution(shape, k, dtype=dtype),
                    **limits,
                ),
            )
        yield (
            f"valid convolution, {name}",
            Case(
                lambda shape, dtype, k=kernel: ValidConvolution(
                    shape, k, dtype=dtype, tolerance=1e-7 if dtype == torch.float32 else 1e-13
                ),
                channels=1,
                sizes=[(5, 4), (1, 3), (1, 1)],
                **ITERATIVE,
            ),
        )
    for boundary in operators.BOUNDARIES:
        for name, kernel in {"lopsided": CENTRED, "gaussian": KERNELS["gaussian"]}.items():
            rows, columns = kernel.shape
            yield (
                f"padded convolution, {boundary}, {name}",
                Case(
                    lambda shape, dtype, k=kernel, b=boundary: PaddedConvolution(
                        shape, k, b, dtype=dtype
                    ),
                    channels=1,
                    sizes=[(6, 7), (5, 5), (3, 4), (2, 3), (1, 6)],
                    fits=lambda size, rows=rows, columns=columns: (
                        size[0] >= rows and size[1] >= columns
                    ),
                    refusal=(
                        rf"the kernel \({rows}x{columns}, height x width\) is larger than the "
                        r"picture"
                    ),
                    **ITERATIVE,
                ),
            )


# Masks


def _random_map(*shape: int) -> Tensor:
    known = torch.rand(shape, generator=torch.Generator().manual_seed(3)) > 0.4
    known.view(-1)[0] = True
    return known


MAPS: dict[str, Callable[[tuple[int, int, int]], Tensor]] = {
    "random pixels": lambda shape: masks.random_pixels(shape[1:], 0.4, 0),
    "random pixels per channel": lambda shape: masks.random_pixels(
        shape[1:], 0.4, 0, channels=shape[0]
    ),
    "strokes": lambda shape: masks.strokes(shape[1:], 0, count=1, thickness=(1, 1)),
    "box": lambda shape: masks.box(shape[1:], *((n + 1) // 2 for n in shape[1:])),
    "border": lambda shape: masks.border(shape[1:], 1),
    "alternate rows": lambda shape: masks.alternate_lines(shape[1:]),
    "alternate columns": lambda shape: masks.alternate_lines(shape[1:], 3, "columns"),
    "checkerboard": lambda shape: masks.alternate_pixels(shape[1:]),
    "grid": lambda shape: masks.alternate_pixels(shape[1:], pattern="grid"),
    "painted": lambda shape: masks.from_picture(
        np.linspace(0, 0.9, shape[1] * shape[2]).reshape(shape[1:])
    ),
    "per channel": lambda shape: _random_map(*shape),
}
MAP_FITS: dict[str, Callable[[Size], bool]] = {
    "strokes": lambda size: size != (1, 1),
    "box": lambda size: max(size) > 1,
    "border": lambda size: min(size) > 2,
}


def _masks() -> Iterator[tuple[str, Case]]:
    for name, make in MAPS.items():
        yield (
            f"mask, {name}",
            Case(
                lambda shape, dtype, make=make: Mask(shape, make(shape), dtype=dtype),
                fits=MAP_FITS.get(name, lambda size: True),
                refusal="leaves no pixel",
            ),
        )
    yield (
        "mask of one picture, as of a batch",
        Case(lambda shape, dtype: Mask(shape, _random_map(1, *shape), dtype=dtype)),
    )


# Colours, mosaics, compressed sensing

MIXES = {
    "1x3": [[0.2, 0.7, 0.1]],
    "2x3": [[0.5, 0.5, 0.0], [0.0, 0.3, 0.7]],
    "3x3": [[1.6, -0.4, -0.2], [-0.3, 1.5, -0.2], [0.1, -0.6, 1.5]],
    "4x3 of rank 2": [[1, 0, 0], [0, 1, 0], [1, 1, 0], [2, -1, 0]],
}


def _pixelwise_and_sensing() -> Iterator[tuple[str, Case]]:
    yield "gray", Case(lambda shape, dtype: gray(shape, dtype=dtype))
    for name, matrix in MIXES.items():
        yield (
            f"colour mix, {name}",
            Case(lambda shape, dtype, m=matrix: color_mix(shape, m, dtype=dtype)),
        )
        yield (
            f"masked colour, {name}",
            Case(
                lambda shape, dtype, m=matrix: MaskedColor(
                    shape, m, _random_map(*shape[1:]), dtype=dtype
                )
            ),
        )
    for pattern in operators.BAYER_PATTERNS:
        yield (
            f"mosaic, {pattern}",
            Case(lambda shape, dtype, p=pattern: Bayer(shape, p, dtype=dtype)),
        )
    yield "mosaic, X-Trans", Case(lambda shape, dtype: operators.XTrans(shape, dtype=dtype))
    yield (
        "mosaic, any pattern",
        Case(lambda shape, dtype: operators.ColorFilterArray(shape, ["RGB", "GRG"], dtype=dtype)),
    )
    for fraction in (0.01, 0.25, 0.6, 1.0):
        yield (
            f"Hadamard, {fraction}",
            Case(lambda shape, dtype, s=fraction: Hadamard(shape, s, seed=1, dtype=dtype)),
        )
    yield (
        "Hadamard, 0.3 of 128 pixels and more",
        Case(
            lambda shape, dtype: Hadamard(shape, 0.3, dtype=dtype),
            channels=1,
            sizes=[(8, 16), (11, 13)],
        ),
    )
    for fraction, pattern in ((0.01, "random"), (0.4, "lines"), (0.3, "radial"), (1.0, "random")):
        yield (
            f"Fourier coefficients, {fraction} {pattern}",
            Case(
                lambda shape, dtype, s=fraction, p=pattern: SampledFourier(
                    shape, s, pattern=p, dtype=dtype
                )
            ),
        )
    for fraction, block in ((0.3, 32), (0.5, 3), (1.0, 2)):
        yield (
            f"block sensing, {fraction} of {block}",
            Case(
                lambda shape, dtype, s=fraction, b=block: BlockSensing(
                    shape, s, block=b, dtype=dtype
                )
            ),
        )


# DDRM's published degradations


def _reference(name: str, factor: int = 1, **options: bool) -> tuple[str, Case]:
    def build(shape: tuple[int, int, int], dtype: torch.dtype) -> LinearOperator:
        return ddrm_reference(name, shape, dtype=dtype, **options)

    smallest = 2 * factor if name.startswith("sr_bicubic") else 1
    case = Case(
        build,
        fits=lambda size: all(n % factor == 0 and n >= smallest for n in size),
        refusal=f"sides that are multiples of {factor}|sides of at least {smallest}",
        **({} if options.get("cut", True) and "sr" not in name else CUT_TAIL),
    )
    return ", ".join(
        ["reference", name, *(f"{key} {value}" for key, value in options.items())]
    ), case


def _references() -> Iterator[tuple[str, Case]]:
    for name in REFERENCE_NAMES:
        if name.startswith("deblur"):
            for cut in (True, False):
                for mixed in (True, False):
                    yield _reference(name, cut=cut, mixed_spectrum=mixed)
        elif name == "sr_bicubic:R":
            yield from (_reference("sr_bicubic:2", 2, cut=cut) for cut in (True, False))
        elif name == "sr_averagepooling:R":
            yield _reference("sr_averagepooling:2", 2)
        else:
            yield _reference(name.replace("FRACTION", "0.3"))


# Made of others


def _mask(shape: tuple[int, int, int], dtype: torch.dtype) -> Mask:
    return Mask(shape, _random_map(*shape[1:]), dtype=dtype)


def _blur(
    shape: tuple[int, int, int], dtype: torch.dtype, sigma: float = 0.45
) -> operators.AxesOperator:
    return gaussian_blur(shape, sigma, dtype=dtype)


def _convolved(shape: tuple[int, int, int], dtype: torch.dtype) -> CircularConvolution:
    """By a lopsided kernel that fits every picture and wipes out nothing."""
    kernel = LOPSIDED[: shape[1], -min(3, shape[2]) :]
    return CircularConvolution(shape, kernel[:, ::-1], dtype=dtype)


def _leaning(x: Tensor) -> Tensor:
    """Each row shifted by one pixel more than the last and dimmed, as by a rolling shutter."""
    rows = [(1 - 0.05 * i) * row.roll(i, -1) for i, row in enumerate(x.unbind(-2))]
    return torch.stack(rows, dim=-2)


MADE_OF_OTHERS: dict[str, Build] = {
    "composition with an SVD, grey after down after blur": lambda shape, dtype: (
        gray((3, -(-shape[1] // 2), -(-shape[2] // 2)), dtype=dtype)
        @ downsample(shape, 2, kernel="area", dtype=dtype)
        @ gaussian_blur(shape, 0.6, boundary="mirror", dtype=dtype)
    ),
    "composition with an SVD, two masks": lambda shape, dtype: (
        Mask(shape, masks.alternate_lines(shape[1:]), dtype=dtype)
        @ Mask(shape, _random_map(*shape), dtype=dtype)
    ),
    "composition with an SVD, mosaic after identity": lambda shape, dtype: (
        Bayer(shape, dtype=dtype) @ operators.identity(shape)
    ),
    "composition with an SVD, mask after bayer": lambda shape, dtype: (
        Mask((1, *shape[1:]), _random_map(*shape[1:]), dtype=dtype)
        @ Bayer((3, *shape[1:]), dtype=dtype)
    ),
    "composition with an SVD, mask after mixed colours": lambda shape, dtype: (
        Mask((2, *shape[1:]), _random_map(*shape[1:]), dtype=dtype)
        @ color_mix(shape, MIXES["2x3"], dtype=dtype)
    ),
    "composition with an SVD, grey after mask": lambda shape, dtype: (
        gray(shape, dtype=dtype) @ _mask(shape, dtype)
    ),
}
WITHOUT_SVD: dict[str, Build] = {
    "composition, mask after convolution": lambda shape, dtype: (
        _mask(shape, dtype) @ _convolved(shape, dtype)
    ),
    "composition, convolution after mask": lambda shape, dtype: (
        _convolved(shape, dtype) @ _mask(shape, dtype)
    ),
    "composition, mosaic after blur": lambda shape, dtype: (
        Bayer(shape, dtype=dtype) @ _blur(shape, dtype)
    ),
    "composition, grey after convolution": lambda shape, dtype: (
        gray(shape, dtype=dtype) @ _convolved(shape, dtype)
    ),
    "composition, Hadamard after blur": lambda shape, dtype: (
        Hadamard(shape, 0.5, dtype=dtype) @ _blur(shape, dtype)
    ),
    "composition, blocks after mask after blur": lambda shape, dtype: (
        BlockSensing(shape, 0.7, block=3, dtype=dtype) @ _mask(shape, dtype) @ _blur(shape, dtype)
    ),
    "composition, down after masked colour": lambda shape, dtype: (
        downsample((2, *shape[1:]), 2, dtype=dtype)
        @ MaskedColor(shape, MIXES["2x3"], _random_map(*shape[1:]), dtype=dtype)
    ),
    "composition, after a function": lambda shape, dtype: (
        downsample(shape, 2, kernel="area", dtype=dtype)
        @ FunctionOperator(_leaning, shape, dtype=dtype)
    ),
    "function": lambda shape, dtype: FunctionOperator(_leaning, shape, dtype=dtype),
    "function that reduces": lambda shape, dtype: FunctionOperator(
        lambda x: (x[:, :1] - 0.5 * x[:, 2:])[..., ::2, :], shape, dtype=dtype
    ),
    "batch of different kinds": lambda shape, dtype: batch_of(
        [
            _mask(shape, dtype) @ _blur(shape, dtype),
            _convolved(shape, dtype),
            operators.identity(shape),
        ]
    ),
}
BATCHES: dict[str, Build] = {
    "batch of blurs": lambda shape, dtype: batch_of(
        [_blur(shape, dtype, sigma) for sigma in (0.3, 0.5)]
    ),
    "batch of one": lambda shape, dtype: batch_of([_blur(shape, dtype)]),
    "batch of a mask, a convolution and an identity": lambda shape, dtype: batch_of(
        [_mask(shape, dtype), _convolved(shape, dtype), operators.AxesOperator(shape, dtype=dtype)]
    ),
    "batch of masks": lambda shape, dtype: Mask(shape, _random_map(3, 1, *shape[1:]), dtype=dtype),
    "batch of masks per channel": lambda shape, dtype: Mask(
        shape, _random_map(2, *shape), dtype=dtype
    ),
    "batch of masked colours": lambda shape, dtype: MaskedColor(
        shape, MIXES["2x3"], _random_map(2, 1, *shape[1:]), dtype=dtype
    ),
}
KERNEL_BATCH = np.stack(
    [np.pad(kernels.gaussian(0.3), 1)[1:-1, 1:-1], kernels.motion(3, 45), kernels.box(3)]
)
EVEN_KERNEL_BATCH = np.stack([kernels.gaussian(0.3), kernels.box(3)])


def _made_of_others() -> Iterator[tuple[str, Case]]:
    yield from ((name, Case(build)) for name, build in {**MADE_OF_OTHERS, **BATCHES}.items())
    yield from (
        (name, Case(build, sizes=[(4, 5), (1, 4), (1, 1)], **ITERATIVE))
        for name, build in WITHOUT_SVD.items()
    )
    limits = {
        "channels": 2,
        "sizes": [(5, 4), (3, 3), (1, 4)],
        "fits": lambda size: min(size) >= 3,
        "refusal": "the kernel .3x3, height x width. is larger than the picture",
    }
    yield (
        "batch of circular convolutions",
        Case(lambda shape, dtype: CircularConvolution(shape, KERNEL_BATCH, dtype=dtype), **limits),
    )
    yield (
        "batch of symmetric convolutions",
        Case(
            lambda shape, dtype: SymmetricConvolution(shape, EVEN_KERNEL_BATCH, dtype=dtype),
            **limits,
        ),
    )
    yield (
        "batch of padded convolutions",
        Case(
            lambda shape, dtype: PaddedConvolution(shape, EVEN_KERNEL_BATCH, "mirror", dtype=dtype),
            **{**limits, "channels": 1, **ITERATIVE},
        ),
    )
    yield (
        "batch of valid convolutions",
        Case(
            lambda shape, dtype: ValidConvolution(
                shape,
                KERNEL_BATCH,
                dtype=dtype,
                tolerance=1e-7 if dtype == torch.float32 else 1e-13,
            ),
            channels=1,
            sizes=[(4, 3), (1, 1)],
            **ITERATIVE,
        ),
    )


TABLE: dict[str, Case] = {
    name: case
    for part in (_axes, _convolutions, _masks, _pixelwise_and_sensing, _references, _made_of_others)
    for name, case in part()
}
SPECTRAL = [name for name, case in TABLE.items() if case.largest().has_svd]
NOT_SPECTRAL = [name for name in TABLE if name not in SPECTRAL]


def pictures_of(operator: LinearOperator, default: int = 2) -> int:
    """How many pictures an operator must be given."""
    counts = {
        len(part.operators)
        for part in operator.modules()
        if isinstance(part, operators.BatchOperator)
    }
    counts |= {
        len(part.singular_values)
        for part in operator.modules()
        if isinstance(part, SpectralOperator)
        and part.singular_values.ndim == 4
        and len(part.singular_values) > 1
    }
    counts |= {
        part.pictures
        for part in operator.modules()
        if isinstance(part, OverlapSave) and part.pictures > 1
    }
    return counts.pop() if counts else default


def random_pictures(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(
        shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).to(dtype)


# What all of them keep
