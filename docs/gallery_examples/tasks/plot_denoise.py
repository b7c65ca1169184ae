r"""
Denoising
=========

``restore denoise`` takes a noisy picture for a state of the reverse process at its noise level
:math:`\sigma`. The posterior mean then takes one network call, with the network's estimate
:math:`\hat\varepsilon` of the noise:

.. math:: E[x_0 \mid y] = y - \sigma\, \hat\varepsilon(y, \sigma)

Networks learn this estimate as in "Denoising Diffusion Probabilistic Models" by Jonathan Ho, Ajay
Jain and Pieter Abbeel, 2020 (`arXiv 2006.11239 <https://arxiv.org/abs/2006.11239>`__).

The default is the mean of two such estimates, of the picture and of its transpose.

Use it for white noise, and for that of a sensor, which depends on the signal (:doc:`/noise`). This
page makes two network calls, twice more with estimated noise, and 20 for a sample.
"""

# %%
# Noise with a standard deviation of 25 of 255.

from figures import compare, photograph, psnr

import restore

truth = photograph()
noise = 25 / 255
noisy = restore.degrade(truth, "identity", noise=noise).picture
clean = restore.denoise(noisy, noise)
print(f"noisy: {psnr(noisy, truth):.1f} dB, denoised: {psnr(clean, truth):.1f} dB")

# %%
# ``auto`` estimates the noise from the picture.

estimated = restore.denoise(noisy, "auto")
print(f"with estimated noise: {psnr(estimated, truth):.1f} dB")

# %%
# The posterior mean is smooth where noise hides detail. A sample of DDRM has grain there, which
# costs PSNR.

sample = restore.denoise(noisy, noise, method="ddrm", eta=0.6)
print(f"sample: {psnr(sample, truth):.1f} dB")
compare({"noisy": noisy, "denoised": clean, "sample": sample}, truth)
