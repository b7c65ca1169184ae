"""Samples as files store them, [H, W, C] with any alpha last."""

from __future__ import annotations

import numpy as np

from restore.photo.refusals import Damaged


def unpremultiply(samples: np.ndarray, full: int) -> np.ndarray:
    """Divide colours by their alpha.

    Args:
        samples: [H, W, 4], alpha last, whole or floating-point numbers from 0 to `full`.
        full: 1 for floating-point numbers, else the largest whole number.

    Returns:
        The same shape and type.
    """
    alpha = samples[..., 3:].astype(np.float32)
    smallest = 1 if full > 1 else np.finfo(np.float32).tiny
    colour = (samples[..., :3] * (np.float32(full) / np.maximum(alpha, smallest))).clip(0, full)
    if full > 1:
        colour = np.rint(colour)

    return np.concatenate([colour, alpha], axis=2).astype(samples.dtype)


def opencv_samples(data: bytes, dtype: type[np.generic]) -> np.ndarray:
    """Decode a file by OpenCV.

    Returns:
        [H, W, C] of type `dtype`: grey, RGB, or RGB and alpha.

    Raises:
        Damaged: OpenCV cannot decode it, or its numbers have another type.
    """
    import cv2

    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    finally:
        cv2.utils.logging.setLogLevel(level)

    if samples is None or samples.dtype != dtype:
        raise Damaged(f"its {8 * np.dtype(dtype).itemsize}-bit pixels cannot be decoded")

    samples = samples.reshape(*samples.shape[:2], -1)
    if samples.shape[2] <= 2:
        return samples

    return samples[..., [2, 1, 0, 3][: samples.shape[2]]]
