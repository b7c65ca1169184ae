r"""
SR3
===

"Image Super-Resolution via Iterative Refinement" by Chitwan Saharia, Jonathan Ho, William Chan, Tim
Salimans, David J. Fleet and Mohammad Norouzi, 2021
(`arXiv 2104.07636 <https://arxiv.org/abs/2104.07636>`__).

The network of SR3 sees the degraded picture :math:`c` beside the noisy one, and was trained to
refine noise into a picture that goes with it:

.. math:: x_{t-1} \sim q(x_{t-1} \mid x_t,\, \hat x_0(x_t, c))

The package also projects each clean estimate onto the measurement, so that the result explains it.

Use it for factors from 3.5, where it is the default, and for several colourings. It needs a
conditional network, as the one that ships is. Each of the three samples on this page takes 6
network calls, the default for these factors.
"""

# %%
# Downsampling by 6, without noise.

from figures import compare, photograph, pixels, psnr, show

import restore
from restore.tasks import Solving

truth = photograph()
operator = "down:bicubic:6"
measured = restore.degrade(truth, operator)

steps = []
result = restore.Restorer().run(
    Solving(operator, noise=0.0),
    measured.measurement,
    method="sr3",
    samples=3,
    callback=steps.append,
)
print(f"{result.report.steps} network calls for each sample")
print(f"RMS of A x - y: {result.report.consistency:.4f}")
print(f"mean of the samples: {psnr(result.mean, truth):.1f} dB")

samples = {f"sample {index + 1}": sample for index, sample in enumerate(result.samples)}
compare({"measured": measured.picture, **samples}, truth, columns=5)

# %%
# They differ along edges, whose place 16×16 pixels leave open: the standard deviation, ten times as
# bright, is largest there.

show({"mean": result.mean, "10 x deviation": 10 * pixels(result.std).mean(axis=-1)})

# %%
# Clean estimates of the first sample: where the network sees hardly more than noise, it returns a
# smooth picture. Edges become sharper as the noise falls.

show({f"σ = {step.sigma:.2g}": step.clean / 2 + 0.5 for step in steps[1:8:2]})
