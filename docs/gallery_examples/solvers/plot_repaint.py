r"""
RePaint
=======

"RePaint: Inpainting using Denoising Diffusion Probabilistic Models" by Andreas Lugmayr, Martin
Danelljan, Andres Romero, Fisher Yu, Radu Timofte and Luc Van Gool, 2022
(`arXiv 2201.09865 <https://arxiv.org/abs/2201.09865>`__).

With the mask :math:`m` of known pixels, each state of the reverse process is put together from two:
the known pixels come from the measurement with noise of the level, all others from the network:

.. math:: x \leftarrow m\, (y + \sigma z) + (1 - m)\, x_{\text{unknown}}

The two may not fit. So the process jumps: noise takes the whole picture back up by some levels, and
these are passed again.

Use it for masks, and for other measurements of components as they are. It draws samples. The
two results on this page take 40 and 30 network calls; the default is 20.
"""

# %%
# A square of 32 pixels is lost.

from figures import compare, photograph, psnr

import restore
from restore.tasks import Solving

truth = photograph()
operator = "mask:box:32:top=28:left=24"
measured = restore.degrade(truth, operator)

# %%
# Without jumps, and with stretches of 5 levels that are passed 5 times. ``steps`` is the most that
# the calls may be, so that jumps leave fewer noise levels.

restorer = restore.Restorer()
task = Solving(operator, noise=0.0)
shown = {"measured": measured.picture}
for title, times in {"no jumps": 1, "each passed 5 times": 5}.items():
    result = restorer.run(
        task,
        measured.measurement,
        method="repaint",
        steps=40,
        parameters={"jump_length": 5, "resamplings": times},
    )
    shown[title] = result.mean
    print(f"{title}: {result.report.steps} network calls, {psnr(result.mean, truth):.1f} dB")

# %%
# With jumps the border of the hole shows less, and the fill has less detail of its own. Known
# pixels are those of the measurement in both.

compare(shown, truth)
