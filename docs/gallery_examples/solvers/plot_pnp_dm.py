r"""
PnP-DM
======

"Principled Probabilistic Imaging using Diffusion Models as Plug-and-Play Priors" by Zihui Wu, Yu
Sun, Yifan Chen, Bingliang Zhang, Yisong Yue and Katherine L. Bouman, 2024
(`arXiv 2405.18782 <https://arxiv.org/abs/2405.18782>`__).

PnP-DM draws two pictures in turn, tied by a coupling :math:`\rho` that falls: one that explains the
measurement, and one from the prior, by a short reverse diffusion:

.. math::
   z \sim p(y \mid z)\, \mathcal N(z; x, \rho^2 I), \qquad x \sim p(x)\, \mathcal N(x; z, \rho^2 I)

Use it for posterior samples: they are exact in the limit of many calls and a small coupling
(:doc:`/posterior`). Each result on this page takes 20 network calls; the default is 100.
"""

# %%
# Downsampling by 4, with noise of 0.02.

from figures import compare, photograph, psnr

import restore
from restore.tasks import Solving

truth = photograph("right")
operator = "down:bicubic:4"
measured = restore.degrade(truth, operator, noise=0.02)

# %%
# The calls of a reverse diffusion are ``reverse_steps``, 2 by default. More of them leave fewer
# sweeps over both pictures.

restorer = restore.Restorer()
task = Solving(operator, noise=0.02)
shown = {"measured": measured.picture}
for calls in (2, 5, 10):
    result = restorer.run(
        task,
        measured.measurement,
        method="pnp-dm",
        steps=20,
        parameters={"reverse_steps": calls},
    )
    title = f"{20 // calls} sweeps of {calls} calls"
    shown[title] = result.mean
    misfit = result.report.consistency
    print(f"{title}: {psnr(result.mean, truth):.1f} dB, RMS of A x - y: {misfit:.4f}")

# %%
# Two sweeps are too few: the misfit stays far above the noise.

compare(shown, truth, columns=5)
