r"""
Deblurring
==========

``restore deblur`` undoes a blur whose kernel :math:`k` is known, or estimates it first. The light
beyond the border of a photograph is unknown, which is how the package treats it: it measures the
inside of a larger picture,

.. math:: y = (k * x)_{\text{inside}} + \sigma_y n

Motion and shake are undone by DPIR: "Plug-and-Play Image Restoration with Deep Denoiser Prior" by
Kai Zhang, Yawei Li, Wangmeng Zuo, Lei Zhang, Luc Van Gool and Radu Timofte, 2021
(`arXiv 2008.13751 <https://arxiv.org/abs/2008.13751>`__); other blurs by DDRM.

Use it for shaken and unfocused pictures; :doc:`/blind` says how far an estimated kernel can be
trusted. Each of the two results on this page takes 20 network calls, the default.
"""

# %%
# A motion over 9 pixels, in a direction of 30 degrees, with noise of 0.01.

from figures import compare, middle, photograph, pixels, psnr, show

import operators
import restore
from restore.tasks import Deblurring

photo = photograph("right")
blurred = restore.degrade(photo, "blur:motion:9:30:boundary=unknown", noise=0.01).picture
truth = middle(photo, blurred.size)

known = restore.deblur(blurred, "motion:9:30", noise=0.01)
print(f"blurred: {psnr(blurred, truth):.1f} dB, restored: {psnr(known, truth):.1f} dB")

# %%
# ``auto`` estimates the kernel and the noise. ``Restorer.run`` also returns what was found.

result = restore.Restorer().run(Deblurring("auto"), blurred)
print(*result.report.notes, sep="\n")
print(f"restored: {psnr(result.mean, truth):.1f} dB")

compare({"blurred": blurred, "known kernel": known, "estimated": result.mean}, truth)

# %%
# The true kernel and the estimated one, as bright as their largest value allows.

kernels = {"true": operators.kernels.motion(9, 30), "estimated": result.kernels[0]}
show({title: pixels(kernel) / kernel.max() for title, kernel in kernels.items()})
