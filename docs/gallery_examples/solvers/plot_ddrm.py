r"""
DDRM
====

"Denoising Diffusion Restoration Models" by Bahjat Kawar, Michael Elad, Stefano Ermon and Jiaming
Song, 2022 (`arXiv 2201.11793 <https://arxiv.org/abs/2201.11793>`__).

DDRM works in the singular components of the degradation :math:`A = U \Sigma V^\top`. Divided by its
singular value :math:`s`, a component of the measurement has noise :math:`\sigma_y / s`. As long as
the reverse process is at a noise level :math:`\sigma` above that, the component comes from the
measurement:

.. math:: \bar x \leftarrow \bar y + \sqrt{\sigma^2 - \sigma_y^2 / s^2}\, \bar z

All others come from the clean estimate of the network.

Use it for operators with a singular value decomposition, and for blurs with an unknown border. It
draws samples. This page makes 20 network calls, the default.
"""

# %%
# A Gaussian blur of 1.5 pixels, followed by noise with a standard deviation of 0.02.

import matplotlib.pyplot as plt
import torch
from figures import compare, photograph, psnr, show

import operators
import restore
from restore.diffusion.schedule import noise_levels
from restore.restorer import load_denoiser
from restore.solvers import ddrm

truth = photograph()
noise = 0.02
blur = operators.gaussian_blur((3, truth.height, truth.width), 1.5)
measured = restore.degrade(truth, blur, noise=noise)

# %%
# Division by small singular values amplifies the noise. In most components it is then larger than
# the whole range of pixels, so that they say nothing about the picture.

amplified = noise / blur.singular_values.flatten().sort(descending=True).values
print(f"{(amplified < 1).float().mean():.0%} of the components have noise below 1")

figure, axis = plt.subplots(figsize=(6, 2.6), layout="constrained")
axis.semilogy(amplified, label="noise after division by $s$")
axis.axhline(1, color="black", linewidth=0.8, label="range of pixels")
axis.set(xlabel="singular component", ylim=(1e-2, 1e3))
_ = axis.legend()

# %%
# The solver itself takes pixels in [-1, 1], so that the noise is twice as large, and falling noise
# levels. It calls ``callback`` with the clean estimate of every network call.

denoise = load_denoiser("default", torch.device("cpu"), torch.float32)
steps = []
with torch.inference_mode():
    solution = ddrm(
        denoise,
        blur,
        2 * measured.measurement - 1,
        2 * noise,
        noise_levels(denoise.schedule, 20, "log-snr", highest=1.0),
        generator=torch.Generator().manual_seed(0),
        callback=steps.append,
    )
restored = (solution / 2 + 0.5).clamp(0, 1)
misfit = (blur.A(restored) - measured.measurement).square().mean().sqrt()

print(f"{len(steps)} network calls, {psnr(restored, truth):.1f} dB")
print(f"RMS of A x - y: {misfit:.4f}, with noise of {noise}")

# %%
# The pseudo-inverse divides by all singular values, and shows nothing but amplified noise.

inverse = blur.pseudo_inverse(measured.measurement)
compare({"measured": measured.picture, "pseudo-inverse": inverse, "DDRM": restored}, truth)

# %%
# Clean estimates on the way, by the noise level at which the network made them:

show({f"σ = {step.sigma:.2g}": step.clean / 2 + 0.5 for step in steps[::6]})

# sphinx_gallery_thumbnail_number = 2
