"""deepinv (Tachella et al., deepinv.github.io) as a witness from outside, where the conventions
agree.

Established with deepinv 0.5.0; each test says where the two differ.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import operators
from operators import kernels

physics = pytest.importorskip("deepinv.physics")

SHAPE = (3, 9, 12)
BOUNDARY = {
    "circular": "circular",
    "reflect": "mirror",
    "replicate": "replicate",
    "constant": "zero",
}
RANDOM = np.random.default_rng(0)
SEPARABLE = {
    "odd": (RANDOM.random(3), RANDOM.random(5)),
    "even": (RANDOM.random(4), RANDOM.random(6)),
    "odd and even": (RANDOM.random(5), RANDOM.random(4)),
}
KERNELS = {
    "odd": RANDOM.random((3, 5)),
    "even": RANDOM.random((4, 6)),
    "even and odd": RANDOM.random((4, 3)),
    "motion": kernels.motion(5, 30),
    "turned gaussian": kernels.gaussian(1.0, 0.5, 25),
}


def _picture(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _filter(kernel: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(kernel))[None, None]


def _agree(ours: operators.LinearOperator, theirs, atol: float = 1e-12) -> None:
    """A and its adjoint, on two pictures."""
    x = _picture(2, *ours.input_shape)
    y = _picture(2, *ours.output_shape, seed=1)
    torch.testing.assert_close(ours.A(x), theirs.A(x), rtol=0, atol=atol)
    torch.testing.assert_close(ours.At(y), theirs.A_adjoint(y), rtol=0, atol=atol)


@pytest.mark.parametrize("padding", BOUNDARY)
@pytest.mark.parametrize("name", SEPARABLE)
def test_blur(name: str, padding: str) -> None:
    """deepinv's blur is true convolution as ours, with the same centre, ``size // 2``.

    Its documentation has ``size // 2 − 1`` for even kernels, which is the centre of the flipped
    kernel. Its ``reflect`` is torch's, which does not repeat the outermost pixel: our ``mirror``.
    Our ``symmetric`` it has not. Its adjoint fails for a circular kernel with a side of 2.
    """
    rows, columns = SEPARABLE[name]
    ours = operators.separable_blur(
        SHAPE, rows, columns, boundary=BOUNDARY[padding], dtype=torch.float64
    )
    _agree(ours, physics.Blur(filter=_filter(np.outer(rows, columns)), padding=padding))


@pytest.mark.parametrize("name", KERNELS)
def test_circular_convolution(name: str) -> None:
    ours = operators.CircularConvolution(SHAPE, KERNELS[name], dtype=torch.float64)
    _agree(ours, physics.Blur(filter=_filter(KERNELS[name]), padding="circular"))
    _agree(ours, physics.BlurFFT(img_size=SHAPE, filter=_filter(KERNELS[name])))


@pytest.mark.parametrize("name", KERNELS)
def test_valid_convolution(name: str) -> None:
    height, width = KERNELS[name].shape
    measured = (3, SHAPE[1] - height + 1, SHAPE[2] - width + 1)
    ours = operators.ValidConvolution(measured, KERNELS[name], dtype=torch.float64)
    assert ours.input_shape == SHAPE
    _agree(ours, physics.Blur(filter=_filter(KERNELS[name]), padding="valid"))


@pytest.mark.parametrize("name", KERNELS)
def test_singular_values_of_a_convolution(name: str) -> None:
    """deepinv keeps half the Fourier spectrum as pairs of real numbers, ours is the whole Hartley
    spectrum.

    So the values of the other half come twice in ours, at the opposite frequency. (V of deepinv is
    no isometry for that reason: pairs inside the half-spectrum stand for two components.)
    """
    ours = operators.CircularConvolution(SHAPE, KERNELS[name], dtype=torch.float64)
    theirs = physics.BlurFFT(img_size=SHAPE, filter=_filter(KERNELS[name])).mask.double()
    torch.testing.assert_close(theirs[..., 0], theirs[..., 1])
    s = ours.singular_values
    torch.testing.assert_close(
        s[..., : SHAPE[2] // 2 + 1], theirs[0, ..., 0].expand(3, -1, -1), rtol=0, atol=1e-6
    )
    opposite = s.flip(-2, -1).roll((1, 1), (-2, -1))
    torch.testing.assert_close(opposite, s)


def test_pseudo_inverse_of_a_convolution() -> None:
    """A kernel of condition number 5: deepinv takes the reciprocals of all singular values, small
    ones too.
    """
    kernel = kernels.gaussian(0.45)
    ours = operators.CircularConvolution(SHAPE, kernel, dtype=torch.float64)
    y = _picture(2, *SHAPE)
    theirs = physics.BlurFFT(img_size=SHAPE, filter=_filter(kernel)).A_dagger(y)
    torch.testing.assert_close(ours.pseudo_inverse(y), theirs, rtol=0, atol=1e-5)


def test_inpainting() -> None:
    known = _picture(*SHAPE) < 0.6
    ours = operators.Mask(SHAPE, known, dtype=torch.float64)
    theirs = physics.Inpainting(SHAPE, mask=known.double())
    _agree(ours, theirs)
    y = _picture(2, *SHAPE)
    torch.testing.assert_close(ours.pseudo_inverse(y), theirs.A_dagger(y), rtol=0, atol=1e-12)


def test_grey() -> None:
    """deepinv's ``rec601`` are rounded products, 0.2990, 0.5870 and 0.1140 to 5·10⁻⁵; with our
    weights they agree.
    """
    default = physics.Decolorize()
    weights = torch.tensor(operators.LUMA_BT601)
    torch.testing.assert_close(default.srf.flatten(), weights, rtol=0, atol=6e-5)
    ours = operators.gray(SHAPE)
    x = _picture(2, *SHAPE).float()
    theirs = physics.Decolorize(srf=operators.LUMA_BT601)
    torch.testing.assert_close(ours.A(x), theirs.A(x), rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.At(ours.A(x)), theirs.A_adjoint(theirs.A(x)), rtol=0, atol=1e-6)
    torch.testing.assert_close(
        ours.pseudo_inverse(x[:, :1]), theirs.A_dagger(x[:, :1]), rtol=0, atol=1e-5
    )


def test_mosaic() -> None:
    """deepinv's mosaic keeps three channels with zeros in them, and its pattern ``bayer`` is our
    BGGR.
    """
    x = _picture(2, *SHAPE)
    theirs = physics.Demosaicing(SHAPE)
    equal = []
    for pattern in operators.BAYER_PATTERNS:
        ours = operators.Bayer(SHAPE, pattern, dtype=torch.float64)
        equal += [pattern] if torch.equal(ours.At(ours.A(x)), theirs.A(x).double()) else []
    assert equal == ["BGGR"]


@pytest.mark.parametrize(
    ("factor", "shift", "padding"), [(2, 0, "constant"), (3, -1, "circular"), (4, -1, "circular")]
)
def test_means_over_blocks(factor: int, shift: int, padding: str) -> None:
    """deepinv blurs around every factor-th pixel, whichever the factor; our blocks begin there.

    Its box of f pixels reaches from ``f i + f // 2 − f + 1`` to ``f i + f // 2``, ours from ``f i``
    to ``f i + f − 1``: the same, but for a shift of the picture.
    """
    shape = (3, 24, 36)
    box = _filter(kernels.box(factor))
    theirs = physics.Downsampling(img_size=shape, factor=factor, filter=box, padding=padding)
    ours = operators.downsample(shape, factor, kernel="area", dtype=torch.float64)
    x = _picture(1, *shape)
    torch.testing.assert_close(
        ours.A(x), theirs.A(x.roll((shift, shift), (-2, -1))), rtol=0, atol=1e-12
    )
    y = _picture(1, *ours.output_shape, seed=1)
    found = theirs.A_adjoint(y).roll((-shift, -shift), (-2, -1))
    torch.testing.assert_close(ours.At(y), found, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("factor", "shift"), [(2, 0), (3, 0), (4, -1)])
def test_published_bicubic_downsampling(factor: int, shift: int) -> None:
    """Inside, deepinv's filter of 4 f taps is that of DDRM's code; its centre lies at ``f i + 1/2``
    whichever the factor, theirs at ``f i + f // 2 − 1/2``. The border of theirs is mirrored.
    """
    shape = (3, 24, 36)
    theirs = physics.Downsampling(
        img_size=shape, factor=factor, filter="bicubic", padding="circular"
    )
    ours = operators.ddrm_reference(f"sr_bicubic:{factor}", shape, cut=False)
    x = _picture(1, *shape).float()
    gap = (ours.A(x) - theirs.A(x.roll((shift, shift), (-2, -1)))).abs()
    assert float(gap[..., 2:-2, 2:-2].max()) < 2e-6
    assert float(gap.max()) > 1e-3


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_bicubic_downsampling(factor: int) -> None:
    """deepinv's translation of MATLAB's imresize mirrors the picture at its border, where we
    renormalise as Pillow.
    """
    shape = (3, 24, 36)
    theirs = physics.DownsamplingMatlab(factor=factor)
    ours = operators.downsample(shape, factor)
    x = _picture(1, *shape).float()
    gap = (ours.A(x) - theirs.A(x)).abs()
    assert float(gap[..., 2:-2, 2:-2].max()) < 2e-6
    assert float(gap.max()) > 1e-3
