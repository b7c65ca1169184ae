r"""
JPEG restoration
================

``restore dejpeg`` removes blocks and ringing. A JPEG rounds the coefficients :math:`D x` of a
cosine transform to multiples of the steps :math:`q` in its tables, so that its file says in which
interval each coefficient of the original lay:

.. math:: |D x - y| \le q / 2

The result stays within these intervals. DPIR finds it: "Plug-and-Play Image Restoration with Deep
Denoiser Prior" by Kai Zhang, Yawei Li, Wangmeng Zuo, Lei Zhang, Luc Van Gool and Radu Timofte, 2021
(`arXiv 2008.13751 <https://arxiv.org/abs/2008.13751>`__).

Use it for JPEG files of low quality (:doc:`/jpeg`). This page makes 8 network calls, the default.
"""

# %%
# A file of quality 20.

from io import BytesIO

from figures import compare, photograph, psnr
from PIL import Image

import restore
from restore.tasks import Dejpeg

truth = photograph("right")
file = BytesIO()
truth.save(file, "JPEG", quality=20)
saved = Image.open(file)

# %%
# ``restore.dejpeg(saved)`` returns the picture alone. ``Restorer.run`` also reports which fraction
# of the coefficients of the result, in 8 bits, is in its interval.

result = restore.Restorer().run(Dejpeg(), saved)
print(f"{file.getbuffer().nbytes} bytes, {result.report.jpeg}")
print(f"{result.report.steps} network calls")
print(f"saved: {psnr(saved, truth):.1f} dB, restored: {psnr(result.mean, truth):.1f} dB")
print(f"in their intervals: {result.report.inside:.1%} of the coefficients")

compare({"saved": saved, "restored": result.mean}, truth)
