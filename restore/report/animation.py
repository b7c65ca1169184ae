"""Animations: pictures one after another in one file."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from torch import Tensor

from restore.photo.encode import quantise

# Suffix of files that are animated.
SUFFIX = ".webp"
# Time that a frame and the last one are shown, in milliseconds.
FRAME_TIME = 100
LAST_TIME = 2000
# Quality of a frame, as of Pillow's WebP.
QUALITY = 90


def animated_webp(frames: Tensor) -> bytes:
    """Encode frames as a WebP animation that repeats.

    Args:
        frames: [N, 3, H, W] in [0, 1].
    """
    pixels = quantise(np.ascontiguousarray(frames.permute(0, 2, 3, 1).numpy()), 8)
    first, *others = (Image.fromarray(frame) for frame in pixels)
    file = io.BytesIO()
    first.save(
        file,
        "WEBP",
        save_all=True,
        append_images=others,
        duration=[FRAME_TIME] * len(others) + [LAST_TIME],
        loop=0,
        quality=QUALITY,
    )

    return file.getvalue()
