r"""
DAPS
====

"Improving Diffusion Inverse Problem Solving with Decoupled Noise Annealing" by Bingliang Zhang,
Wenda Chu, Julius Berner, Chenlin Meng, Anima Anandkumar and Yang Song, 2024
(`arXiv 2407.01521 <https://arxiv.org/abs/2407.01521>`__).

At each noise level, DAPS draws a clean picture near the network's estimate :math:`\hat x_0` that
explains the measurement, and adds the noise of the next level :math:`\varsigma` anew:

.. math::
   x_0 \sim \mathcal N(x_0; \hat x_0(x), r^2 I)\; p(y \mid x_0), \qquad
   x \leftarrow x_0 + \varsigma z

No noise is kept from level to level, so that late levels can correct the errors of early ones.

Use it for several samples of holes and enlargements, where ``auto`` takes it. Each of the four
samples on this page takes 20 network calls; the default is 100. :doc:`/posterior` compares samples
with exact posteriors.
"""

# %%
# A square of 32 pixels is lost.

from figures import photograph, pixels, psnr, show

import restore
from restore.tasks import Solving

truth = photograph()
operator = "mask:box:32:top=30:left=28"
measured = restore.degrade(truth, operator)

# %%
# ``samples=4`` returns the samples, their mean and their standard deviation.

result = restore.Restorer().run(
    Solving(operator, noise=0.0), measured.measurement, method="daps", steps=20, samples=4
)
print(f"{result.report.steps} network calls for each sample")
print("samples:", ", ".join(f"{psnr(sample, truth):.1f} dB" for sample in result.samples))
print(f"mean of the samples: {psnr(result.mean, truth):.1f} dB")

show({f"sample {index + 1}": sample for index, sample in enumerate(result.samples)})

# %%
# The samples differ in the hole alone, and most at its lower right, where each ends the yellow at
# another place: that is the deviation, shown five times as bright. It does not say what all samples
# miss: none has the white cheek, of which little was measured.

deviation = pixels(result.std).mean(axis=-1)
inside = pixels(measured.picture).max(axis=-1) == 0
print(f"largest deviation inside the hole: {deviation[inside].max():.2f}")
print(f"largest deviation elsewhere: {deviation[~inside].max():.2f}")

show(
    {
        "measured": measured.picture,
        "mean": result.mean,
        "5 x deviation": 5 * deviation,
        "truth": truth,
    }
)
