r"""
Super-resolution
================

``restore sr`` enlarges a picture and restores its detail. From a factor of 3.5 on, SR3 does it:
"Image Super-Resolution via Iterative Refinement" by Chitwan Saharia, Jonathan Ho, William Chan, Tim
Salimans, David J. Fleet and Mohammad Norouzi, 2021
(`arXiv 2104.07636 <https://arxiv.org/abs/2104.07636>`__). Its clean estimates :math:`\hat x_0` are
projected onto the pictures that explain the small one,

.. math:: \hat x_0 + A^+ (y - A \hat x_0),

so that the result, made smaller again, gives the input.

Smaller factors are by DDRM, from the output of the predictor.

Use it for small pictures and crops. This page makes 6 network calls, the default for these factors,
and one more for the method ``one-step``.
"""

# %%
# ``restore.degrade`` makes test pictures, here one of 24×24 pixels.

from figures import compare, photograph, pixels, psnr
from PIL import Image

import restore

truth = photograph("right")
small = restore.degrade(truth, "down:bicubic:4").picture
large = restore.sr(small, scale=4)
bicubic = small.resize(large.size, Image.Resampling.BICUBIC)

print(f"{small.width}x{small.height} to {large.width}x{large.height} pixels")
print(f"bicubic: {psnr(bicubic, truth):.1f} dB, restored: {psnr(large, truth):.1f} dB")

# %%
# Made smaller again, the result differs from the input by what rounding to 8 bits and the range of
# pixels change.

again = restore.degrade(large, "down:bicubic:4").picture
difference = ((pixels(again) - pixels(small)) ** 2).mean() ** 0.5
print(f"RMS difference from the input: {255 * difference:.2f} of 255")

# %%
# One call of the method ``one-step`` gives a smoother picture, with a better PSNR.

once = restore.sr(small, scale=4, method="one-step")
compare({"input": small, "bicubic": bicubic, "restored": large, "one step": once}, truth, columns=5)
