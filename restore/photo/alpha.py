"""Transparency: colours that nobody sees must not reach those that are seen.

What a file holds under its transparent pixels is arbitrary, black mostly. A network and an operator
see the whole picture, so they would carry it over the edge: a dark rim around a cut-out. Before a
restoration those colours are therefore replaced by a smooth continuation of the visible ones.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from restore.metrics.noise import estimate_noise, estimate_signal_noise
from restore.metrics.signal_noise import SignalNoise

# Alpha below which the colour of a pixel counts as arbitrary: 5 of 255, too little to see or to
# hold a colour.
HIDDEN_BELOW = 0.02


def hidden(alpha: Tensor) -> Tensor:
    """Mask of the pixels whose colour cannot be seen, bool of the shape of `alpha`."""
    return alpha < HIDDEN_BELOW


def continue_colour(color: Tensor, alpha: Tensor) -> Tensor:
    """Replace the colour of hidden pixels by a smooth continuation of the visible ones.

    Pull-push (Gortler et al., The Lumigraph, SIGGRAPH 1996, 3.4): colours weighted by alpha are
    averaged to ever coarser grids until no hole is left, and the holes are filled on the way back.
    Visible pixels come through untouched, as does a picture that is hidden or visible everywhere.

    Args:
        color: [B, C, H, W].
        alpha: [B, 1, H, W] in [0, 1].
    """
    known = ~hidden(alpha)
    known = known | ~known.any(dim=-1, keepdim=True).any(dim=-2, keepdim=True)
    if bool(known.all()):
        return color
    weight = torch.where(known, alpha.clamp_min(HIDDEN_BELOW), 0)
    return torch.where(known, color, _pull_push(color * weight, weight))


def visible_noise(color: Tensor, alpha: Tensor) -> list[float]:
    """Noise level of the visible part of each picture, see `restore.metrics.noise.estimate_noise`.

    Hidden pixels are set to zero, which the estimate leaves out.

    Args:
        color: [B, C, H, W].
        alpha: [B, 1, H, W].
    """
    known = ~hidden(alpha)
    count = known.sum(dim=(-2, -1), keepdim=True).clamp_min(1)
    mean = (color * known).sum(dim=(-2, -1), keepdim=True) / count

    return [estimate_noise(picture) for picture in (color - mean) * known]


def visible_signal_noise(color: Tensor, alpha: Tensor) -> list[SignalNoise]:
    """Noise of the visible part of each picture, see `estimate_signal_noise`.

    Args:
        color: [B, C, H, W].
        alpha: [B, 1, H, W].
    """
    known = ~hidden(alpha)
    pairs = zip(color, known[:, 0], strict=True)
    return [estimate_signal_noise(picture, where) for picture, where in pairs]


def put_back(solutions: Tensor, color: Tensor, alpha: Tensor, keep: Tensor | None = None) -> Tensor:
    """Restore the file's own colours where they are hidden.

    Args:
        solutions: [K, B, C, H, W]; those of another size than the file are returned unchanged.
        color: Colours of the file, [B, C, h, w].
        alpha: Alpha of the file, [B, 1, h, w].
        keep: Mask of an inpainting, as in `restore.tasks.problem.Problem`: what it fills stays
            filled.
    """
    if solutions.shape[-2:] != color.shape[-2:]:
        return solutions
    unseen = hidden(alpha) if keep is None else hidden(alpha) & (keep.to(alpha.device) == 1)
    return torch.where(unseen, color, solutions)


def _pull_push(weighted: Tensor, weight: Tensor) -> Tensor:
    """Colours everywhere from weighted colours, given a weight that is positive somewhere."""
    colour = weighted / weight.clamp_min(torch.finfo(weight.dtype).tiny)
    holes = weight == 0
    if not bool(holes.any()):
        return colour

    pooled = [F.avg_pool2d(values, 2, ceil_mode=True) for values in (weighted, weight)]
    coarse = F.interpolate(_pull_push(*pooled), scale_factor=2, mode="bilinear")
    return torch.where(holes, coarse[..., : weight.shape[-2], : weight.shape[-1]], colour)
