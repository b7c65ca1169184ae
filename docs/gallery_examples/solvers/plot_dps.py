r"""
DPS
===

"Diffusion Posterior Sampling for General Noisy Inverse Problems" by Hyungjin Chung, Jeongsol Kim,
Michael T. McCann, Marc L. Klasky and Jong Chul Ye, 2022
(`arXiv 2209.14687 <https://arxiv.org/abs/2209.14687>`__).

After each step of the reverse process to :math:`x'`, DPS goes down the misfit of the clean estimate
:math:`x_0(x)`, by a gradient through the operator and the network:

.. math:: x \leftarrow x' - \zeta \nabla_x \|y - A\, x_0(x)\|

Use it for any operator, linear or not, if there is time: each call is a forward and a backward
pass. It draws samples. Each result on this page takes 12 network calls; the default is 50.
"""

# %%
# Downsampling by 4, without noise.

import matplotlib.pyplot as plt
from figures import compare, photograph, psnr

import operators
import restore
from restore.tasks import Solving

truth = photograph("right", side=80)
operator = operators.downsample((3, 80, 80), 4)
measured = restore.degrade(truth, operator)

# %%
# The step size s is the most that a step may move the picture, as the root mean square of pixels in
# [0, 1]. The default is 0.02. ``callback`` gets the clean estimate of each call.

restorer = restore.Restorer()
task = Solving(operator, noise=0.0)
shown = {"measured": measured.picture}
misfits = {}
for size in (0.002, 0.2):
    steps = []
    result = restorer.run(
        task,
        measured.measurement,
        method="dps",
        steps=12,
        parameters={"step_size": size},
        callback=steps.append,
    )
    estimates = [operator.A(step.clean.detach() / 2 + 0.5) for step in steps]
    misfits[size] = [float((y - measured.measurement).square().mean().sqrt()) for y in estimates]
    shown[f"s = {size:g}"] = result.mean
    print(f"s = {size:g}: {result.report.steps} network calls, {psnr(result.mean, truth):.1f} dB")

compare(shown, truth)

# %%
# The misfit of the clean estimates: the small steps are too weak to lower it. What is left of it
# after the last call, a projection onto the measurement removes.

figure, axis = plt.subplots(figsize=(6, 2.6), layout="constrained")
for size, misfit in misfits.items():
    axis.semilogy(range(1, 13), misfit, label=f"s = {size:g}")
axis.set(xlabel="network call", ylabel="RMS of A x - y")
_ = axis.legend()
