r"""
DDNM
====

"Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model" by Yinhuai Wang, Jiwen Yu
and Jian Zhang, 2022 (`arXiv 2212.00490 <https://arxiv.org/abs/2212.00490>`__).

Every picture is the sum of two parts: one in the row space of the operator, which the measurement
determines, and one in its null space, which the operator does not see. DDNM takes the first from
the measurement, and only the second from the clean estimate :math:`x_0` of the network:

.. math:: \hat x_0 = A^+ y + (I - A^+ A)\, x_0

Use it for linear operators without noise. With noise it becomes DDNM+, which needs a singular value
decomposition. It draws samples. This page makes 20 network calls, the default, and 15 with time
travel.
"""

# %%
# Downsampling by 4, without noise.

from figures import compare, photograph, psnr, show

import operators
import restore
from restore.tasks import Solving

truth = photograph("right")
operator = operators.downsample((3, truth.height, truth.width), 4)
measured = restore.degrade(truth, operator)

restorer = restore.Restorer()
task = Solving(operator, noise=0.0)
result = restorer.run(task, measured.measurement, method="ddnm")
print(f"{result.report.steps} network calls, {psnr(result.mean, truth):.1f} dB")
print(f"RMS of A x - y: {result.report.consistency:.1e}")

# %%
# The two parts of the result. That in the null space is shown around mid-grey. It removes the
# ringing of the other, and downsampling makes nothing of it but rounding errors.

row_space = operator.pseudo_inverse(measured.measurement)
null_space = result.mean - row_space
print(f"largest value of A times the null space: {operator.A(null_space).abs().max():.0e}")

show(
    {
        "measured": measured.picture,
        "row space": row_space,
        "null space": null_space + 0.5,
        "their sum": result.mean,
    }
)

# %%
# Time travel passes stretches of the noise levels again, here 5 levels twice. The paper needs it
# for large holes and factors; on this picture it makes no visible difference.

travelled = restorer.run(
    task,
    measured.measurement,
    method="ddnm",
    parameters={"travel_length": 5, "travel_repeats": 2},
)
print(f"{travelled.report.steps} network calls, {psnr(travelled.mean, truth):.1f} dB")
compare({"without time travel": result.mean, "with time travel": travelled.mean}, truth)
