r"""
Inpainting
==========

``restore inpaint`` fills what a mask marks, and leaves all other pixels as they are. DPIR does it
where all holes are narrow, such as scratches, and DDRM elsewhere, as here:
"Denoising Diffusion Restoration Models" by Bahjat Kawar, Michael Elad, Stefano Ermon and Jiaming
Song, 2022 (`arXiv 2201.11793 <https://arxiv.org/abs/2201.11793>`__). A mask :math:`m` has singular
values 1 and 0: at every noise level :math:`\sigma` a known pixel comes from the measurement, and an
unknown one from the clean estimate of the network,

.. math:: x \leftarrow m\, y + (1 - m)\, \hat x_0 + \sigma z

Use it for scratches, writing and unwanted objects; :doc:`/old-photographs` says how scratches are
found. This page makes 20 network calls, the default.
"""

# %%
# A mask is a picture, white where to fill.

import numpy as np
from figures import compare, photograph, psnr
from PIL import Image, ImageDraw

import restore

truth = photograph()
mask = Image.new("L", truth.size)
draw = ImageDraw.Draw(mask)
draw.line([(4, 20), (40, 60), (90, 34)], fill=255, width=5)
draw.ellipse((66, 8, 84, 26), fill=255)
draw.text((30, 66), "text", fill=255, font_size=24)
damaged = Image.composite(Image.new("RGB", truth.size, "white"), truth, mask)

# %%
# Letters have soft edges. ``dilate`` grows the mask by a pixel, so that these are filled as well.

restored = restore.inpaint(damaged, mask, dilate=1)
print(f"damaged: {psnr(damaged, truth):.1f} dB, restored: {psnr(restored, truth):.1f} dB")

# %%
# Pixels that the mask leaves alone come through unchanged.

touched = np.any(np.asarray(restored) != np.asarray(damaged), axis=-1)
white = np.asarray(mask) >= 128
print(f"{white.mean():.0%} of the mask is white, {touched.mean():.0%} of the pixels changed")

compare({"damaged": damaged, "mask": mask, "restored": restored}, truth)
