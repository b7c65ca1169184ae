r"""
RED-diff
========

"A Variational Perspective on Solving Inverse Problems with Diffusion Models" by Morteza Mardani,
Jiaming Song, Jan Kautz and Arash Vahdat, 2023
(`arXiv 2305.04391 <https://arxiv.org/abs/2305.04391>`__).

RED-diff looks for the mean :math:`\mu` of a Gaussian near the posterior. After each network call,
Adam takes one step down the gradient

.. math:: A^\top (A \mu - y) + \lambda\, (\mu - \hat x_0(\mu + \sigma \varepsilon))

with new noise :math:`\varepsilon` at falling levels :math:`\sigma`. No gradient goes through the
network.

Use it for any operator without noise, if you want one answer. This page makes 40 network calls; the
default is 20.
"""

# %%
# Half of the pixels are lost.

import matplotlib.pyplot as plt
from figures import compare, photograph, psnr, show

import restore
from restore.tasks import Solving

truth = photograph()
operator = "mask:random:0.5"
measured = restore.degrade(truth, operator)

steps = []
result = restore.Restorer().run(
    Solving(operator, noise=0.0),
    measured.measurement,
    method="red-diff",
    steps=40,
    callback=steps.append,
)
print(f"{result.report.steps} network calls, {psnr(result.mean, truth):.1f} dB")
compare({"measured": measured.picture, "RED-diff": result.mean}, truth)

# %%
# The clean estimates of the network become sharper while Adam works.

estimates = [step.clean / 2 + 0.5 for step in steps]
show({f"call {index + 1}": estimates[index] for index in range(0, 40, 13)})

# %%
# Their PSNR levels off towards the end.

figure, axis = plt.subplots(figsize=(6, 2.6), layout="constrained")
axis.plot(range(1, 41), [psnr(estimate, truth) for estimate in estimates])
_ = axis.set(xlabel="network call", ylabel="PSNR in dB")
