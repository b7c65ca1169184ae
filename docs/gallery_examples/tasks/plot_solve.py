r"""
Any inverse problem
===================

``restore solve`` restores from any measurement whose degradation can be written down,

.. math:: y = A x + \sigma_y n,

as text, such as ``blur:disk:2+down:area:2``, or as an operator in Python. DiffPIR does it where no
other task has better settings: "Denoising Diffusion Models for Plug-and-Play Image Restoration" by
Yuanzhi Zhu, Kai Zhang, Jingyun Liang, Jiezhang Cao, Bihan Wen, Radu Timofte and Luc Van Gool, 2023
(`arXiv 2305.08995 <https://arxiv.org/abs/2305.08995>`__).

Use it for what is no task of its own; :doc:`/operators` lists the degradations. The two
results on this page take 20 network calls, the default, and 10.
"""

# %%
# Compressed sensing: a quarter as many numbers as pixels, each a sum of all pixels with signs from
# a Hadamard matrix. The measurement is no picture; in its place ``degrade`` returns the
# pseudo-inverse.

import torch
from figures import compare, photograph, psnr

import operators
import restore

truth = photograph("right")
operator = "hadamard:0.25"
measured = restore.degrade(truth, operator)
channels, _, numbers = measured.measurement.shape[1:]
print(f"{channels} x {numbers} numbers for {channels} x {truth.width * truth.height} pixels")

restored = restore.solve(measured.measurement, operator, noise=0.0, size=truth.size)
print(f"restored: {psnr(restored, truth):.1f} dB")
compare({"pseudo-inverse": measured.picture, "restored": restored}, truth)

# %%
# A function is an operator as well: autograd finds its adjoint, and conjugate gradients its
# inverse. :doc:`/own-operator` shows faster ways.


def ghost(x: torch.Tensor) -> torch.Tensor:
    """Add a reflection, 5 pixels lower and 8 to the right."""
    reflected = torch.zeros_like(x)
    reflected[..., 5:, 8:] = x[..., :-5, :-8]
    return 0.75 * x + 0.25 * reflected


pane = operators.FunctionOperator(ghost, (3, truth.height, truth.width))
measured = restore.degrade(truth, pane, noise=0.01)
restored = restore.solve(measured.measurement, pane, noise=0.01, steps=10)
print(f"measured: {psnr(measured.picture, truth):.1f} dB, restored: {psnr(restored, truth):.1f} dB")
compare({"measured": measured.picture, "restored": restored}, truth)
