"""Reverse processes without a measurement, one family a file; `catalogue` has them by name.

A sampler is a plain function ``sampler(denoise, x, sigmas, …)``: x is [B, C, H, W] at the first and
highest of the falling noise levels, ``x0 + σ ε`` with pictures in [-1, 1], and comes back as a
picture.
"""

from restore.diffusion.stepping import Step

__all__ = ["Step"]
