"""Degradations of pictures: linear ones with their singular value decomposition, JPEG, rounding.

>>> blur = gaussian_blur((3, 480, 640), sigma=2.0)
>>> degrade = downsample(blur.output_shape, factor=4) @ blur
>>> degrade.output_shape
(3, 120, 160)

`operators.kernels` has blur kernels as arrays, `operators.masks` maps of known pixels.
"""

from operators import kernels, masks
from operators.axes import AlongAxes, AxesOperator, identity
from operators.banded_axes import BandedAxesOperator, along_axes
from operators.base import (
    RANK_TOLERANCE,
    Composition,
    IterativeOperator,
    LinearOperator,
    Shape,
    SpectralOperator,
    compose,
    composition_rule,
)
from operators.batch import BatchOperator, batch_of
from operators.bayer import BAYER_PATTERNS, Bayer
from operators.blur import (
    BOUNDARIES,
    blur_matrix,
    box_blur,
    box_taps,
    gaussian_blur,
    gaussian_taps,
    separable_blur,
)
from operators.border_convolution import PaddedConvolution, ValidConvolution
from operators.checks import check, dense_matrix
from operators.color import LUMA_BT601, MaskedColor, color_mix, gray
from operators.convolution import CONVOLUTION_BOUNDARIES, convolution
from operators.fourier import SampledFourier
from operators.function import FunctionOperator, adjoint_of
from operators.grammar import Degradation
from operators.iterative import conjugate_gradient, least_squares
from operators.jpeg import Jpeg
from operators.jpeg_file import JpegComponent, JpegFile
from operators.mask import Mask
from operators.mosaic import X_TRANS_PATTERN, ColorFilterArray, XTrans
from operators.nonlinear import NonlinearChain, NonlinearOperator
from operators.quantise import Quantise
from operators.reference import ddrm_reference
from operators.resample import RESAMPLERS, downsample, resample_matrix
from operators.sensing import BlockSensing, Hadamard, MaskedRows
from operators.spectral_convolution import CircularConvolution, SymmetricConvolution
from operators.text import parse

__all__ = [
    "BAYER_PATTERNS",
    "BOUNDARIES",
    "CONVOLUTION_BOUNDARIES",
    "LUMA_BT601",
    "RANK_TOLERANCE",
    "RESAMPLERS",
    "X_TRANS_PATTERN",
    "AlongAxes",
    "AxesOperator",
    "BandedAxesOperator",
    "BatchOperator",
    "Bayer",
    "BlockSensing",
    "CircularConvolution",
    "ColorFilterArray",
    "Composition",
    "Degradation",
    "FunctionOperator",
    "Hadamard",
    "IterativeOperator",
    "Jpeg",
    "JpegComponent",
    "JpegFile",
    "LinearOperator",
    "Mask",
    "MaskedColor",
    "MaskedRows",
    "NonlinearChain",
    "NonlinearOperator",
    "PaddedConvolution",
    "Quantise",
    "SampledFourier",
    "Shape",
    "SpectralOperator",
    "SymmetricConvolution",
    "ValidConvolution",
    "XTrans",
    "adjoint_of",
    "along_axes",
    "batch_of",
    "blur_matrix",
    "box_blur",
    "box_taps",
    "check",
    "color_mix",
    "compose",
    "composition_rule",
    "conjugate_gradient",
    "convolution",
    "ddrm_reference",
    "dense_matrix",
    "downsample",
    "gaussian_blur",
    "gaussian_taps",
    "gray",
    "identity",
    "kernels",
    "least_squares",
    "masks",
    "parse",
    "resample_matrix",
    "separable_blur",
]
