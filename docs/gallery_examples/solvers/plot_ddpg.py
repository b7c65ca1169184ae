r"""
DDPG
====

"Image Restoration by Denoising Diffusion Models with Iteratively Preconditioned Guidance" by Tomer
Garber and Tom Tirer, 2023 (`arXiv 2312.16519 <https://arxiv.org/abs/2312.16519>`__).

DDPG moves each clean estimate :math:`x_0` by the preconditioned residual of the measurement:

.. math::
   \hat x_0 = x_0 + \mu A^\top W (y - A x_0), \qquad
   W = (1 - \delta) (A A^\top + \eta I)^{-1} + \delta c I

At high noise levels :math:`\delta` is near 0, and this is back-projection, which converges fast. At
low ones it is near 1, and this is least squares, which does not amplify the noise of the
measurement. The exponent :math:`\gamma` in :math:`\delta = \bar\alpha^\gamma` says how late least
squares takes over.

Use it for linear operators with noise. It draws samples. Each result on this page takes 15 network
calls; the default is 20.
"""

# %%
# A Gaussian blur of 1.5 pixels, with noise of 0.02.

from figures import compare, photograph, psnr

import restore
from restore.tasks import Solving

truth = photograph("right")
operator = "blur:gaussian:1.5"
measured = restore.degrade(truth, operator, noise=0.02)

# %%
# :math:`\gamma = 0` is least squares from the start, and :math:`\gamma = 1000` back-projection
# almost to the end. The default is 8.

restorer = restore.Restorer()
task = Solving(operator, noise=0.02)
shown = {"measured": measured.picture}
for gamma in (0.0, 8.0, 1000.0):
    result = restorer.run(
        task, measured.measurement, method="ddpg", steps=15, parameters={"gamma": gamma}
    )
    shown[f"γ = {gamma:g}"] = result.mean
    print(f"γ = {gamma:g}: {result.report.steps} network calls, {psnr(result.mean, truth):.1f} dB")

# %%
# Back-projection turns the noise of the measurement into coloured spots. Least squares alone is a
# little less sharp than both in turn.

compare(shown, truth, columns=5)
