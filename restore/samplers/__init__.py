"""Samplers: reverse processes without a measurement, one family a file.

A sampler is a plain function ``sampler(denoise, x, sigmas, …)``. It takes x, [B, C, H, W], at the
first and highest noise level, ``x0 + σ ε`` with pictures in [-1, 1], and returns pictures.
`catalogue` lists the samplers by name.
"""

from restore.diffusion.stepping import Step

__all__ = ["Step"]
