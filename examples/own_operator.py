"""A degradation of your own, in three ways, and a picture restored from it.

    python examples/own_operator.py [PICTURE [RESULT]]

The camera of this example stands behind a window pane, has a cheap lens, and dark corners. The
package knows none of them. Each is written in another way: the more is written, the faster and the
more exact is what follows from it; the least is enough to restore a picture with. RESULT shows
measurement, inverse and restored picture side by side.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image, to_tensor

import operators
import restore
from operators import IterativeOperator, LinearOperator, Shape, SpectralOperator

NOISE = 0.02
"""Standard deviation of the measurement's noise, for pictures in [0, 1]."""


# 1. A function, nothing else. The adjoint comes from automatic differentiation, A⁺ from conjugate
# gradients.


def window_pane(x: Tensor) -> Tensor:
    """A ghost: the pane reflects a fifth of the picture, 5 pixels lower and 8 to the right. Nothing
    enters it there.
    """
    ghost = torch.zeros_like(x)
    ghost[..., 5:, 8:] = x[..., :-5, :-8]
    return 0.8 * x + 0.2 * ghost


def ghost(shape: Shape) -> LinearOperator:
    return operators.FunctionOperator(window_pane, shape)


# 2. A and Aᵀ by hand: no automatic differentiation, and ``A⁺`` from conjugate gradients still.


class ColorFringe(IterativeOperator):
    """A lens that moves each colour sideways by another whole number of pixels; what leaves the
    picture is lost.

    Args:
        input_shape: (C, H, W) of the picture.
        shifts: of each channel, to the right, in pixels.

    Raises:
        ValueError: not one shift for each channel, or one by more than the picture is wide.
    """

    def __init__(self, input_shape: Shape, shifts: tuple[int, ...] = (-2, 0, 3)) -> None:
        super().__init__(input_shape, input_shape)
        if len(shifts) != input_shape[0] or max(map(abs, shifts)) >= input_shape[2]:
            raise ValueError(
                f"{input_shape[0]} shifts of less than {input_shape[2]} pixels are needed, not "
                f"{shifts}"
            )

        self.shifts = shifts

    def A(self, x: Tensor) -> Tensor:
        return torch.stack([_moved(x[:, c], shift) for c, shift in enumerate(self.shifts)], dim=1)

    def At(self, y: Tensor) -> Tensor:
        return torch.stack([_moved(y[:, c], -shift) for c, shift in enumerate(self.shifts)], dim=1)


def _moved(x: Tensor, shift: int) -> Tensor:
    """To the right by ``shift`` pixels (to the left by ``-shift``), with zeros coming in."""
    kept = x[..., max(0, -shift) : x.shape[-1] - max(0, shift)]
    return torch.nn.functional.pad(kept, (max(0, shift), max(0, -shift)))


# 3. The whole decomposition A = U Σ Vᵀ. A, Aᵀ and A⁺ follow, exact and fast, and every solver takes
# it.


class Vignette(SpectralOperator):
    """Corners darker than the middle by the fourth power of a cosine, as of a simple wide-angle
    lens.

    Every pixel is multiplied by a positive number of its own. So U and V are the identity, and the
    singular values are those numbers.

    Args:
        input_shape: (C, H, W) of the picture.
        corner: what is left of the light in the corners, above 0 and at most 1.

    Raises:
        ValueError: ``corner`` is out of range.
    """

    singular_values: Tensor

    def __init__(self, input_shape: Shape, corner: float = 0.15) -> None:
        super().__init__(input_shape, input_shape)
        if not 0 < corner <= 1:
            raise ValueError(
                f"the light left in the corners must be above 0 and at most 1, not {corner}"
            )

        _, height, width = input_shape
        rows = torch.linspace(-1, 1, height)
        columns = torch.linspace(-1, 1, width)
        squared = (
            rows[:, None] ** 2 + columns**2
        ) / 2  # of the distance from the middle; 1 in the corners
        gain = (
            1 + squared * (corner**-0.5 - 1)
        ) ** -2  # cos⁴ of an angle whose tangent grows with the distance
        self.register_buffer(
            "singular_values", gain.expand(input_shape).clone()
        )  # a buffer follows .to(device)

    def V(self, spectrum: Tensor) -> Tensor:
        return spectrum

    def Vt(self, x: Tensor) -> Tensor:
        return x

    def U(self, spectrum: Tensor) -> Tensor:
        return spectrum

    def Ut(self, y: Tensor) -> Tensor:
        return y


# On a small picture every promise is compared with dense matrices: a test that costs nothing.


def check_them() -> None:
    shape = (3, 9, 12)
    for operator in (ghost(shape), ColorFringe(shape), Vignette(shape), camera(shape)):
        operators.check(operator, rtol=1e-4)


def camera(shape: Shape) -> LinearOperator:
    """All three, from right to left: the pane, the lens, the dark corners."""
    return Vignette(shape) @ ColorFringe(shape) @ ghost(shape)


# Restoring with it. The measurement is taken as it is: A x + noise, for pictures x in [0, 1].


def restored(operator: LinearOperator, measurement: Tensor) -> Tensor:
    """``[B, *operator.output_shape]`` to pictures ``[B, *operator.input_shape]`` in [0, 1]."""
    return restore.solve(measurement, operator, noise=NOISE)


def psnr(x: Tensor, truth: Tensor) -> float:
    """In dB, for pictures in [0, 1]."""
    return float(-10 * (x.clamp(0, 1) - truth).square().mean().log10())


def main(picture: Path, result: Path | None = None) -> None:
    check_them()
    truth = to_tensor(Image.open(picture).convert("RGB"))[None]
    operator = camera(tuple(truth.shape[1:]))
    measurement = operator.A(truth)
    measurement = measurement + NOISE * torch.randn(
        measurement.shape, generator=torch.Generator().manual_seed(0)
    )
    results = {
        "measured": measurement,
        "inverted": operator.pseudo_inverse(measurement),
        "restored": restored(operator, measurement),
    }

    for name, x in results.items():
        print(f"{name}: {psnr(x, truth):.1f} dB")

    if result is not None:
        to_pil_image(torch.cat([x[0].clamp(0, 1) for x in results.values()], dim=-1)).save(result)


if __name__ == "__main__":
    paths = [Path(argument) for argument in sys.argv[1:3]]
    main(*(paths or [Path(__file__).with_name("parrots.png")]))
