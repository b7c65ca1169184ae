"""Kinds of inverse problems, which decide how a problem is best solved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from operators import LinearOperator, NonlinearChain
    from restore.diffusion.denoiser import Condition

    Operator = LinearOperator | NonlinearChain


@dataclass(frozen=True)
class Kind:
    """A kind of inverse problem.

    Attributes:
        name: key of the settings that methods have for it.
        title: in words, beside another kind of the same task.
        method: method that measures best with the default model (docs/methods.md).
        predicted_method: the best method where the model has a predictor for the problem and its
            noise; empty if that makes no difference.
        sampler: the best method that draws samples of the posterior.
        unconditional: the best method for an unconditional model.
        sharpest: the method with the best LPIPS, for ``fidelity`` below 1.
        mean_weights: weights of the posterior mean in its result that have the best LPIPS and the
            best PSNR.
        etas: fractions of fresh noise η that have the best LPIPS and the best PSNR; None if other
            values than the method's own bring nothing.
        fast: the method that measures best in at most 8 calls, for ``fast``.
        fast_steps: calls of it.
        matches: ``matches(operator)`` is True if the operator makes problems of this kind.
        condition: ``condition(operator, measurement)`` is the condition of conditional networks,
            None for degradations that they do not know; the measurement is in [0, 1].
        estimates_noise: True if the measurement is a picture whose noise can be estimated.
        rounding_is_noise: True if quantisation to 8 bits counts as noise, as it does for blurs.
        is_noisy_picture: True if the measurement is the picture with white noise, a state of the
            reverse process.
        is_blurred: True if the measurement is the picture, blurred.
        enlarges: True if the measurement is the picture in fewer pixels.
        fills_holes: True if whole pixels are unknown.
        is_linear: False if the operator is nonlinear after the noise.
        predicted: True if predictors are trained on such problems.
        needs_prior: False if purely conditional models can solve it.
    """

    name: str
    method: str
    sampler: str
    unconditional: str
    matches: Callable[[Operator], bool]
    condition: Callable[[Operator, Tensor], Condition | None] | None = None
    title: str = ""
    predicted_method: str = ""
    sharpest: str = "diffpir"
    mean_weights: tuple[float, float] = (0.0, 1.0)
    etas: tuple[float, float] | None = None
    fast: str = "diffpir"
    fast_steps: int = 8
    estimates_noise: bool = False
    rounding_is_noise: bool = False
    is_noisy_picture: bool = False
    is_blurred: bool = False
    enlarges: bool = False
    fills_holes: bool = False
    is_linear: bool = True
    predicted: bool = False
    needs_prior: bool = True


def behind_jpeg(kind: Kind, *, direct: bool = False) -> Kind:
    """Return the kind of a problem whose measurement was saved as a JPEG (docs/jpeg.md).

    Only some methods take the intervals of its coefficients.

    Args:
        kind: the kind without JPEG.
        direct: True if the measurement is the picture, with noise or without.
    """
    if not kind.is_linear:
        return kind

    changed = replace(
        kind, method="diffpir", sampler="diffpir", unconditional="diffpir", sharpest="diffpir",
        fast="dpir", fast_steps=8, predicted_method="", mean_weights=(0.0, 0.0), etas=None,
        is_linear=False, is_noisy_picture=False, predicted=False, needs_prior=True,
    )  # fmt: skip
    if direct:  # noise is removed best by a method that adds none
        quiet = replace(changed, method="dpir", unconditional="dpir")
        return replace(quiet, name="compressed", etas=(0.5, 1.0))
    if kind.enlarges:
        title = f"JPEG, {kind.title}"
        sharp = replace(changed, method="pigdm", unconditional="pigdm", title=title)
        return replace(sharp, name="sr+jpeg", etas=(0.4, 1.0))

    return changed
