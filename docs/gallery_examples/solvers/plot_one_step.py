r"""
One step
========

The predictor of "Deblurring via Stochastic Refinement" by Jay Whang, Mauricio Delbracio, Hossein
Talebi, Chitwan Saharia, Alexandros G. Dimakis and Peyman Milanfar, 2021
(`arXiv 2112.02475 <https://arxiv.org/abs/2112.02475>`__), without the refinement.

Of all estimates, the posterior mean has the least mean squared error. A network that was trained to
predict pictures by least squares approximates it in one call:

.. math:: \hat x \approx E[x_0 \mid y]

The package then projects it onto the measurement.

Use it when time is short, or if you prefer a smooth and faithful result to a detailed one. This
page compares one network call with four samples of 6 calls each.
"""

# %%
# Downsampling by 4, without noise.

from figures import compare, photograph, psnr

import restore
from restore.tasks import Solving

truth = photograph()
operator = "down:bicubic:4"
measured = restore.degrade(truth, operator)

restorer = restore.Restorer()
task = Solving(operator, noise=0.0)
once = restorer.run(task, measured.measurement, method="one-step")
print(f"{once.report.steps} network call, {psnr(once.mean, truth):.1f} dB")

# %%
# Samples of SR3 are sharper, and further from the truth. Their mean is as near to it as the one
# call.

several = restorer.run(task, measured.measurement, method="sr3", samples=4)
print(f"{several.report.steps} network calls for each sample")
print("samples:", ", ".join(f"{psnr(sample, truth):.1f} dB" for sample in several.samples))
print(f"mean of the samples: {psnr(several.mean, truth):.1f} dB")

compare(
    {
        "measured": measured.picture,
        "one step": once.mean,
        "one sample of SR3": several.samples[0],
        "mean of 4 samples": several.mean,
    },
    truth,
    columns=5,
)
