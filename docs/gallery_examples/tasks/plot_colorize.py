r"""
Colourisation
=============

``restore colorize`` finds colours for a grey picture. The luminance of the result is the grey
picture:

.. math:: 0.299\, R + 0.587\, G + 0.114\, B = y

One network call approximates the mean of all colourings. ``samples`` are drawn by SR3: "Image
Super-Resolution via Iterative Refinement" by Chitwan Saharia, Jonathan Ho, William Chan, Tim
Salimans, David J. Fleet and Mohammad Norouzi, 2021
(`arXiv 2104.07636 <https://arxiv.org/abs/2104.07636>`__).

Use it for black-and-white photographs. This page makes one network call, and 10 for each of three
samples.
"""

# %%
# A grey picture has one value for three unknown ones at each pixel.

from figures import compare, photograph, pixels, psnr, show

import restore

truth = photograph()
gray = restore.degrade(truth, "gray").picture
colored = restore.colorize(gray)
print(f"grey: {psnr(gray.convert('RGB'), truth):.1f} dB, colourised: {psnr(colored, truth):.1f} dB")

# %%
# Made grey again, the result differs from the input by what rounding to 8 bits and the range of
# pixels change.

again = restore.degrade(colored, "gray").picture
difference = ((pixels(again) - pixels(gray)) ** 2).mean() ** 0.5
print(f"RMS difference from the input: {255 * difference:.2f} of 255")

# %%
# Grey does not tell the yellow of this parrot from other light colours, and the mean of all of them
# is muted.

compare({"grey": gray.convert("RGB"), "colourised": colored}, truth)

# %%
# Samples have different tints, but no sample has the colours of the parrot.

drawn = restore.colorize(gray, samples=3, steps=10)
show({f"sample {index + 1}": sample for index, sample in enumerate(drawn.samples)})
