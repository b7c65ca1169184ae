"""The holes of a mask anywhere in an operator, and their width."""

from __future__ import annotations

import scipy
from torch import Tensor

from operators import Composition, Mask, MaskedColor, MaskedRows, NonlinearChain
from restore.tasks.problem import Operator


def level_for_holes(operator: Operator, filled: bool) -> float:
    """Return the noise level that hides the initial picture of an inpainting.

    It is half the largest distance in pixels to a known pixel, from 1 to 20, for empty holes, and
    an eighth of it, from 0.2 to 5, for holes filled by a classical method.
    """
    factor, least, most = (1 / 8, 0.2, 5.0) if filled else (1 / 2, 1.0, 20.0)
    unknown = holes_of(operator)
    if unknown is None:
        return least

    holes = unknown.flatten(0, -3).cpu().numpy()
    distance = max(scipy.ndimage.distance_transform_edt(hole).max() for hole in holes)
    return float(min(max(factor * distance, least), most))


def holes_of(operator: Operator) -> Tensor | None:
    """Return True at pixels hidden by a mask among the factors of an operator."""
    if isinstance(operator, NonlinearChain):
        return None if operator.linear is None else holes_of(operator.linear)
    if isinstance(operator, Composition):
        holes = holes_of(operator.second)
        return holes_of(operator.first) if holes is None else holes
    if isinstance(operator, MaskedColor):
        return operator.known == 0

    return operator.singular_values == 0 if isinstance(operator, Mask | MaskedRows) else None
