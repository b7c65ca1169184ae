"""Classical methods by name, and their choice for a degraded picture.

All of them know the operator and the noise; `restore.metrics.classical` documents their tuning.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray

from operators import LinearOperator, Mask, NonlinearChain
from restore.errors import Unavailable
from restore.evaluate.protocol import Case
from restore.metrics import classical
from restore.tasks.dejpeg import COMPRESSED

Photo = NDArray[np.float32]
Method = Callable[[Case], Photo]

# The degraded picture itself, if it has the size of the truth: the baseline.
INPUT = "input"
# Optional packages that methods need.
OPTIONAL = {"bm3d": "bm3d", "bm3d-bicubic": "bm3d"}
# Maximum number of iterations of Richardson-Lucy, which rises as the noise falls.
MOST_ITERATIONS = 200


def _enlarged(case: Case, kernel: str) -> Photo:
    return classical.upscale(case.photo, case.size, kernel)  # type: ignore[arg-type]


def _denoised_first(case: Case, denoise: Callable[[Photo, float], Photo]) -> Photo:
    return classical.upscale(denoise(case.photo, case.noise), case.size, "bicubic")


def _pseudo_inverse(case: Case) -> Photo:
    operator = case.operator
    with torch.inference_mode():
        picture = operator.visible(operator.pseudo_inverse(case.measurement))
    return picture[0].permute(1, 2, 0).numpy().clip(0, 1)


def _filled(case: Case, method: str) -> Photo:
    return classical.inpaint(case.photo, case.missing, method)  # type: ignore[arg-type]


def _richardson_lucy(case: Case) -> Photo:
    rounds = round(1 / max(case.noise, 1 / MOST_ITERATIONS))
    return classical.richardson_lucy(case.photo, case.taps, rounds)  # type: ignore[arg-type]


def bm3d(image: Photo, noise: float) -> Photo:
    """Denoise by colour BM3D of the package ``bm3d``, in its normal profile.

    Args:
        image: [H, W, 3] in [0, 1].
        noise: standard deviation of the noise in the same units.

    Raises:
        Unavailable: the package is not installed.

    References:
        K. Dabov, A. Foi, V. Katkovnik, K. Egiazarian, "Image denoising by sparse 3-D
        transform-domain collaborative filtering", IEEE Trans. Image Processing 16(8), 2007.
    """
    try:
        from bm3d import bm3d_rgb
    except ImportError as error:
        raise Unavailable(
            f"the method bm3d needs the package of that name ({error}); pip install bm3d"
        ) from None
    return np.asarray(bm3d_rgb(image, noise), np.float32).clip(0, 1)


def _rounding(case: Case) -> float:
    """Return the expected error of JPEG or quantisation, which denoisers take for noise."""
    assert isinstance(case.operator, NonlinearChain)
    return float(case.operator.error(case.measurement).max())


_UPSCALING: dict[str, Method] = {
    "bicubic": partial(_enlarged, kernel="bicubic"),
    "lanczos": partial(_enlarged, kernel="lanczos"),
    "pseudo-inverse": _pseudo_inverse,
    "nlm-bicubic": partial(_denoised_first, denoise=classical.non_local_means),
    "bm3d-bicubic": partial(_denoised_first, denoise=bm3d),
}
_DEBLURRING: dict[str, Method] = {
    "wiener": lambda case: classical.wiener(case.photo, case.taps, case.noise),  # type: ignore[arg-type]
    "richardson-lucy": _richardson_lucy,
    "tv": lambda case: classical.tv_deblur(case.photo, case.taps, case.noise),  # type: ignore[arg-type]
}
_DENOISING: dict[str, Method] = {
    "tv": lambda case: classical.total_variation(case.photo, case.noise),
    "nlm": lambda case: classical.non_local_means(case.photo, case.noise),
    "bm3d": lambda case: bm3d(case.photo, case.noise),
}
_OF_ROUNDING: dict[str, Method] = {
    "tv": lambda case: classical.total_variation(case.photo, _rounding(case)),
    "nlm": lambda case: classical.non_local_means(case.photo, _rounding(case)),
    "bm3d": lambda case: bm3d(case.photo, _rounding(case)),
}
_INPAINTING: dict[str, Method] = {
    name: partial(_filled, method=name) for name in ("telea", "navier-stokes", "biharmonic")
}
# Methods by the name of the kind of problem, see `restore.tasks.solve.resembled_kind`.
_BY_KIND: dict[str, dict[str, Method]] = {
    "sr": _UPSCALING,
    "deblur": _DEBLURRING,
    "denoise": _DENOISING,
    "compressed": _OF_ROUNDING,
    "inpaint": _INPAINTING,
    "colorize": {"grey": lambda case: np.repeat(case.photo, 3, axis=2)},
    "demosaic": {"pseudo-inverse": _pseudo_inverse},
    "solve": {"pseudo-inverse": _pseudo_inverse},
}

NAMES = tuple(dict.fromkeys([INPUT, *(name for methods in _BY_KIND.values() for name in methods)]))


def suitable(case: Case) -> dict[str, Method]:
    """Return the classical methods for a degraded picture, including those not installed."""
    methods = dict(_BY_KIND.get(case.kind.name, {}))
    if not case.noise:
        for name in ("nlm-bicubic", "bm3d-bicubic"):
            methods.pop(name, None)
    if case.kind.is_blurred and case.taps is None:
        methods = {"pseudo-inverse": _pseudo_inverse}
    if not isinstance(case.operator, LinearOperator) and case.kind is not COMPRESSED:
        methods = {}
    if case.kind.fills_holes and not _whole_pixels(case):
        methods = {}

    return {INPUT: _as_it_is, **methods} if case.comparable else methods


def installed(name: str) -> bool:
    """Return True if the package that a method needs is installed."""
    return name not in OPTIONAL or find_spec(OPTIONAL[name]) is not None


def _as_it_is(case: Case) -> Photo:
    return case.photo


def _whole_pixels(case: Case) -> bool:
    """Return True if a mask hides all channels of a pixel or none."""
    if not isinstance(case.operator, Mask):
        return False
    known = case.operator.singular_values.reshape(-1, *case.size)
    return bool((known == known[:1]).all())
