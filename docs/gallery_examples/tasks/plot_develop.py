r"""
Developing a camera raw
=======================

``restore develop`` makes a picture of a camera raw. Behind its filters :math:`M`, a sensor measures
one of three colours at each pixel, with noise whose variance grows with the signal:

.. math:: y = M x + n, \qquad \operatorname{var} n = a\, M x + b

Demosaicking and denoising are one inverse problem. DPIR solves it: "Plug-and-Play Image Restoration
with Deep Denoiser Prior" by Kai Zhang, Yawei Li, Wangmeng Zuo, Lei Zhang, Luc Van Gool and Radu
Timofte, 2021 (`arXiv 2008.13751 <https://arxiv.org/abs/2008.13751>`__).

Use it for the files of a camera: ``restore.develop("IMG_1234.dng")`` (:doc:`/raw`). This page makes
a raw of its own, and 4 network calls, the default.
"""

# %%
# The light of the photograph, by undoing sRGB's curve, and what a sensor with a Bayer pattern makes
# of it: red and blue at a quarter of the pixels each, green at the others.

import numpy as np
from figures import compare, photograph, pixels, psnr

import restore
from restore.photo.raws import Raw
from restore.tasks import Developing

truth = photograph("right")
shown = pixels(truth)
light = np.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)

mosaic = light[..., 1].copy()
mosaic[0::2, 0::2] = light[0::2, 0::2, 0]
mosaic[1::2, 1::2] = light[1::2, 1::2, 2]

# %%
# Noise and counts. Reading the file of a camera gives such a record.

a, b = 1e-3, 1e-5
random = np.random.default_rng(0).standard_normal(mosaic.shape)
signal = (mosaic + np.sqrt(a * mosaic + b) * random).clip(-0.03, 1)
raw = Raw(
    counts=np.rint(512 + signal * (16383 - 512)).astype(np.uint16),
    pattern=("RG", "GB"),
    black=np.full((2, 2), 512, np.float32),
    white=16383,
    gains=(1.0, 1.0, 1.0),
    to_srgb=np.eye(3),
    noise=((a, b),) * 3,
)

# %%
# ``plain`` is a classical demosaicking along edges, from which the solver starts. It keeps the
# noise, which the solver removes. Dots along the outline of the head remain in both.

plain = Developing().plain(raw)
developed = restore.develop(raw)
print(f"classical: {psnr(plain, truth):.1f} dB, developed: {psnr(developed, truth):.1f} dB")

compare({"signal of the sensor": signal, "classical": plain, "developed": developed}, truth)
