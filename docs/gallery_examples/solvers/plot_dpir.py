r"""
DPIR
====

"Plug-and-Play Image Restoration with Deep Denoiser Prior" by Kai Zhang, Yawei Li, Wangmeng Zuo, Lei
Zhang, Luc Van Gool and Radu Timofte, 2021
(`arXiv 2008.13751 <https://arxiv.org/abs/2008.13751>`__).

DPIR alternates between a fit to the measurement and the denoiser, at falling noise levels
:math:`\sigma`, without adding noise:

.. math::
   x \leftarrow \arg\min_x \frac{\|y - A x\|^2}{\sigma_y^2} + \lambda \frac{\|x - z\|^2}{\sigma^2},
   \qquad z \leftarrow E[x_0 \mid x_0 + \sigma \varepsilon = x]

Use it for motion blur, narrow holes, mosaics and JPEGs, where it is the default, and wherever you
want one smooth and faithful answer in few calls. Each result on this page takes 8 network calls;
the default for blurs and holes is 20.
"""

# %%
# A shaken camera, with noise of 0.01 and an unknown border.

from figures import compare, middle, photograph, pixels, psnr

import restore
from restore.tasks import Solving

photo = photograph()
operator = "blur:shake:13:boundary=unknown"
measured = restore.degrade(photo, operator, noise=0.01)
truth = middle(photo, measured.picture.size)

# %%
# The weight λ of the denoised picture is 0.18 by default. With far too little weight the noise is
# amplified, with far too much the blur remains.

restorer = restore.Restorer()
task = Solving(operator, noise=0.01)
results = {
    strength: restorer.run(
        task,
        measured.measurement,
        method="dpir",
        steps=8,
        parameters={"strength": strength},
    )
    for strength in (0.01, 0.18, 4.0)
}
for strength, result in results.items():
    quality = psnr(result.mean, truth)
    print(f"λ = {strength:g}: {result.report.steps} network calls, {quality:.1f} dB")

shown = {f"λ = {strength:g}": result.mean for strength, result in results.items()}
compare({"measured": measured.picture, **shown}, truth, columns=5)

# %%
# Nothing is random: another seed gives the same picture.

other = restorer.run(task, measured.measurement, method="dpir", steps=8, seed=1)
difference = abs(pixels(other.mean) - pixels(results[0.18].mean)).max()
print(f"largest difference between two seeds: {difference:.1f}")
