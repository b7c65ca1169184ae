r"""
Conjugate ΠGDM
==============

"Fast Samplers for Inverse Problems in Iterative Refinement Models" by Kushagra Pandey, Ruihan Yang
and Stephan Mandt, 2024 (`arXiv 2405.17673 <https://arxiv.org/abs/2405.17673>`__).

A part of the flow that ΠGDM guides is linear in the state :math:`x`, with a rate :math:`a`.
Conjugate integrators solve it exactly, by the factor :math:`E = \exp(-\int a\, d\sigma)`, and step
only the part of the network: a measured component goes from :math:`\sigma` to :math:`\varsigma` by

.. math::
   \bar x \leftarrow \bar y + \frac{E_\sigma}{E_\varsigma} (\bar x_0 - \bar y)
   + \varsigma \bar\varepsilon + \text{a term of the Jacobian}

Use it for linear operators when calls are scarce. Each call is a forward and a backward pass, and
only the start is random. Each result on this page takes 6 network calls; the default is 10.
"""

# %%
# Downsampling by 4, without noise.

from figures import compare, photograph, psnr

import restore
from restore.tasks import Solving

truth = photograph("right")
operator = "down:bicubic:4"
measured = restore.degrade(truth, operator)

# %%
# More weight w of the guidance makes the result sharper, until it draws edges that are not there.
# The default is 16.

restorer = restore.Restorer()
task = Solving(operator, noise=0.0)
shown = {"measured": measured.picture}
for weight in (1.0, 16.0, 32.0):
    result = restorer.run(
        task,
        measured.measurement,
        method="conjugate-pigdm",
        steps=6,
        parameters={"weight": weight},
    )
    shown[f"w = {weight:g}"] = result.mean
    print(f"w = {weight:g}: {result.report.steps} network calls, {psnr(result.mean, truth):.1f} dB")

compare(shown, truth, columns=5)
