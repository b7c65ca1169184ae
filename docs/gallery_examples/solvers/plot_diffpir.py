r"""
DiffPIR
=======

"Denoising Diffusion Models for Plug-and-Play Image Restoration" by Yuanzhi Zhu, Kai Zhang, Jingyun
Liang, Jiezhang Cao, Bihan Wen, Radu Timofte and Luc Van Gool, 2023
(`arXiv 2305.08995 <https://arxiv.org/abs/2305.08995>`__).

DiffPIR weighs each clean estimate :math:`x_0` of the network against the measurement, and adds
noise of the next level to the result:

.. math::
   \hat x_0 = \arg\min_x \frac{\|y - A x\|^2}{\sigma_y^2} + \lambda \frac{\|x - x_0\|^2}{\sigma^2}

Use it for any operator: without a singular value decomposition, conjugate gradients find the
minimum. The results on this page take 5, 10 and 20 network calls; the default is 20.
"""

# %%
# Motion blur over 9 pixels, with noise of 0.01. Nothing is known of the light from beyond the
# border: ``boundary=unknown`` measures the pixels whose light all comes from within the picture,
# and these are restored.

from figures import compare, middle, photograph, psnr

import restore
from restore.tasks import Solving

photo = photograph("right")
operator = "blur:motion:9:30:boundary=unknown"
measured = restore.degrade(photo, operator, noise=0.01)
truth = middle(photo, measured.picture.size)
print(f"{truth.width}x{truth.height} pixels of {photo.width}x{photo.height} are measured")

# %%
# ``Restorer.run`` returns the restored picture with a report.

restorer = restore.Restorer()
task = Solving(operator, noise=0.01)
shown = {"measured": measured.picture}
for steps in (5, 10, 20):
    result = restorer.run(task, measured.measurement, method="diffpir", steps=steps)
    misfit = result.report.consistency
    shown[f"{steps} calls"] = result.mean
    print(f"{steps} calls: {psnr(result.mean, truth):.1f} dB, RMS of A x - y: {misfit:.4f}")

# %%
# With too few calls, noise that the fit to the measurement has amplified remains in the picture.
# The misfit comes nearer to the noise, 0.01, with every step.

compare(shown, truth, columns=5)
