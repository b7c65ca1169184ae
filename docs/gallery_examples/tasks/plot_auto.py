r"""
Automatic restoration
=====================

``restore auto`` looks for noise, blur and JPEG compression, and undoes what it finds. A picture
that shows nothing is returned as it is. The noise is estimated as in "An Efficient Statistical
Method for Image Noise Level Estimation" by Guangyong Chen, Fengyuan Zhu and Pheng Ann Heng, ICCV
2015 (not on arXiv): patches of a picture lie in few dimensions, so that the smaller eigenvalues
:math:`\lambda_i` of their covariance come from the noise alone,

.. math:: \sigma^2 = \operatorname{mean} \{\lambda_i : i > k\}

Use it for pictures of which little is known (:doc:`/auto`). This page makes one network call for
the noise, and 8 for the JPEG.
"""

# %%
# A noisy picture, a JPEG, and one that shows nothing.

from io import BytesIO

from figures import compare, photograph, pixels
from PIL import Image

import restore
from restore.tasks import Automatic

truth = photograph()
noisy = restore.degrade(truth, "identity", noise=0.06).picture
file = BytesIO()
truth.save(file, "JPEG", quality=15)
saved = Image.open(file)

# %%
# ``restore.auto(picture)`` returns the picture alone; ``Restorer.run`` also returns a report, with
# what was found as notes.

restorer = restore.Restorer()
results = {}
for name, picture in {"noisy": noisy, "JPEG": saved, "untouched": truth}.items():
    results[name] = restorer.run(Automatic(), picture)
    print(f"{name}, network calls: {results[name].report.steps}")
    print(*(f"- {note}" for note in results[name].report.notes), sep="\n")

# %%
# The third picture is returned unchanged.

same = (pixels(results["untouched"].mean) == pixels(truth)).all()
print(f"the same pixels: {same}")
compare(
    {
        "noisy": noisy,
        "noisy, restored": results["noisy"].mean,
        "JPEG": saved,
        "JPEG, restored": results["JPEG"].mean,
    },
    truth,
    columns=5,
)
