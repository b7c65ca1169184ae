"""Noise level of a picture."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def estimate_noise(image: Tensor) -> float:
    """Standard deviation of white Gaussian noise in a picture, in the units of its pixels.

    The mean over channels of scikit-image's `estimate_sigma`: the median absolute deviation of the
    finest wavelet coefficients (Donoho, Johnstone 1994). Fine texture counts as noise, so a sharp
    clean photograph gives a little more than zero.

    Args:
        image: [C, H, W].
    """
    from skimage.restoration import estimate_sigma

    pixels = image.detach().cpu().double().numpy()
    if min(pixels.shape[1:]) < 4:
        return 0.0
    return float(np.nan_to_num(np.mean([estimate_sigma(channel) for channel in pixels])))
