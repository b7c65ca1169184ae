"""Figures of measurements: curves, and pictures below them. They need matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from restore.errors import BadArgument, Unavailable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
# Most names in a legend.
NAMED = 8

Array = NDArray[np.float64]


class Curve(NamedTuple):
    """A line of a figure.

    Attributes:
        name: name in the legend.
        x: positions.
        y: values.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]


class Panel(NamedTuple):
    """A picture of a figure.

    Attributes:
        title: line above it.
        pixels: [H, W, 3] in [0, 1].
    """

    title: str
    pixels: Array


def check_figure(path: Path, parameter: str) -> None:
    """Check that a figure can be made.

    Raises:
        BadArgument: the suffix is not that of a figure.
        Unavailable: matplotlib is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise BadArgument(f"`{parameter}`={path}: must end with {', '.join(SUFFIXES)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise Unavailable(
            f"`{parameter}`={path}: figures need the package matplotlib: "
            "pip install restore-diffusion[gallery]"
        ) from None


def terms_figure(curves: Sequence[Curve], suffix: str) -> bytes:
    """Draw the terms of a variational bound by the step t, both logarithmic.

    Args:
        curves: terms L_{t−1} in bits per dimension by t, for each picture.
        suffix: one of `SUFFIXES`.
    """
    figure = _figure(7, 4)
    axes = figure.add_subplot()
    for curve in curves:
        axes.loglog(curve.x, np.maximum(curve.y, 1e-12), label=curve.name)

    axes.set_xlabel("step t")
    axes.set_ylabel("$L_{t-1}$, bits per dimension")
    _finish(axes, curves)

    return _bytes(figure, suffix)


def rate_figure(curves: Sequence[Curve], panels: Sequence[Panel], suffix: str) -> bytes:
    """Draw rate–distortion curves with pictures below them.

    Args:
        curves: root mean square error in 8-bit levels by the rate in bits per dimension.
        panels: pictures, from the lowest rate.
        suffix: one of `SUFFIXES`.
    """
    figure = _figure(max(7, 1.3 * len(panels)), 5.4)
    parts: Any = figure.subfigures(2, 1, height_ratios=(2.6, 1))
    above, below = parts
    axes = above.add_subplot()
    for curve in curves:
        axes.plot(curve.x, curve.y, label=curve.name)

    axes.set_xlabel("rate, bits per dimension")
    axes.set_ylabel("distortion, RMSE in [0, 255]")
    axes.set_ylim(bottom=0)
    _finish(axes, curves)

    for place, panel in zip(below.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        place.imshow(panel.pixels)
        place.set_title(panel.title, fontsize=8)
        place.set_axis_off()

    return _bytes(figure, suffix)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _finish(axes: Any, curves: Sequence[Curve]) -> None:
    axes.grid(alpha=0.3)
    if 1 < len(curves) <= NAMED:
        axes.legend(fontsize=8)


def _bytes(figure: Figure, suffix: str) -> bytes:
    file = io.BytesIO()
    # without the date and version, so that equal figures are equal files
    metadata = {
        ".png": {"Software": None},
        ".svg": {"Date": None},
        ".pdf": {"CreationDate": None},
    }
    figure.savefig(file, format=suffix.lower()[1:], dpi=110, metadata=metadata[suffix.lower()])
    return file.getvalue()
