r"""
ΠGDM
====

"Pseudoinverse-Guided Diffusion Models for Inverse Problems" by Jiaming Song, Arash Vahdat, Morteza
Mardani and Jan Kautz, ICLR 2023 (`OpenReview <https://openreview.net/forum?id=9_gsMA8MRKQ>`__; it
is not on arXiv).

ΠGDM takes a step of DDIM, and adds the way from the clean estimate :math:`x_0` to the measurement,
pulled back through the network:

.. math::
   g = r^2 \left(\frac{\partial x_0}{\partial x}\right)^{\!\top}
   A^\top (r^2 A A^\top + \sigma_y^2 I)^{-1} (y - A x_0)

Use it for any operator, also behind a JPEG: ``auto`` takes it to enlarge JPEGs. Each call is a
forward and a backward pass. It draws samples. Each of the two samples on this page takes 10 network
calls; the default is 20.
"""

# %%
# Downsampling by 2, then JPEG at quality 50.

from figures import compare, photograph, psnr
from PIL import Image

import restore
from restore.tasks import Solving

truth = photograph("right", side=80)
operator = "down:bicubic:2+jpeg:50"
measured = restore.degrade(truth, operator)

# %%
# ``samples=2`` also returns their mean.

result = restore.Restorer().run(
    Solving(operator), measured.measurement, method="pigdm", steps=10, samples=2
)
bicubic = measured.picture.resize(truth.size, Image.Resampling.BICUBIC)
print(f"{result.report.steps} network calls for each sample")
print(f"bicubic: {psnr(bicubic, truth):.1f} dB")
print("samples:", ", ".join(f"{psnr(sample, truth):.1f} dB" for sample in result.samples))

compare(
    {
        "measured": measured.picture,
        "bicubic": bicubic,
        "sample": result.samples[0],
        "mean of 2 samples": result.mean,
    },
    truth,
    columns=5,
)
