"""The one-step methods as modules of operations that ONNX has, for pictures of any size.

Every size is computed in the graph, so one file serves all pictures.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from restore.diffusion.denoiser import Denoiser
from restore.diffusion.evidence import QUANTISATION_NOISE, Evidence
from restore.diffusion.predictor import Predictor, numbers_of, predicted
from restore.tasks import SuperResolution
from restore.tasks.inverse import evidence_of

# Side of the low-resolution picture whose evidence stands for that of every size: the border, which
# alone depends on the size, changes the known fraction by less than 1e-6.
TYPICAL = 64

# Gram matrices A Aᵀ of bicubic downsampling by a factor s have eigenvalues from 0.47/s to 1.04/s,
# for factors from 2 to 8 and axes of 1 to 100 pixels. That makes the error of the first guess of
# the inverse 0.38, and after four of Schulz's iterations, each of which squares it, 2e-7.
FIRST_GUESS = 2 / (0.47 + 1.04)
ITERATIONS = 4


class Enlargement(nn.Module):
    """``restore sr --method one-step`` of pictures without noise, by a whole factor.

    The prediction is projected onto the pictures that explain the input, with bicubic downsampling
    as a matrix along each axis. Its pseudo-inverse ``Aᵀ (A Aᵀ)⁻¹`` takes Schulz's iterations (1933)
    in place of an SVD, which ONNX lacks.

    Args:
        predictor: Network in float32.
        scale: Whole factor, at least 2.
    """

    numbers: Tensor

    def __init__(self, predictor: Predictor, scale: int) -> None:
        super().__init__()
        self.network = predictor.network
        self.config = predictor.config
        self.scale = scale
        small = torch.zeros(1, 3, TYPICAL, TYPICAL)
        evidence = evidence_of(SuperResolution(scale).problem(small), self.config.shown)
        self.known = float(evidence.known[0, 0, 0, 0])
        self.noise = float(evidence.noise[0, 0, 0, 0])
        self.register_buffer("numbers", numbers_of(evidence))

    def forward(self, input: Tensor) -> Tensor:
        """Enlarge a picture [1, 3, h, w] in [0, 1]."""
        y = 2 * input - 1
        rows, columns = (self._downsampling(size) for size in input.shape[-2:])
        inverse_rows, inverse_columns = (self._pseudo_inverse(axis) for axis in (rows, columns))

        if self.config.shown == "inverse":
            shown = inverse_rows @ y @ inverse_columns.mT
        else:
            size = (rows.shape[1], columns.shape[1])
            shown = F.interpolate(y, size=size, mode="bicubic", align_corners=False)

        clean = self._predicted(shown)
        residual = y - rows @ clean @ columns.mT
        clean = clean + inverse_rows @ residual @ inverse_columns.mT
        return ((clean + 1) / 2).clamp(0, 1)

    def _predicted(self, shown: Tensor) -> Tensor:
        """Return the prediction [1, 3, H, W] for the evidence of that picture in [-1, 1]."""
        height, width = shown.shape[-2:]
        whole = mirrored(shown, self.config.backbone.size_multiple)
        one = torch.ones_like(whole[:, :1])
        evidence = Evidence(whole, self.known * one, self.noise * one)
        return predicted(self.network, self.config, evidence, self.numbers)[..., :height, :width]

    def _downsampling(self, size: int) -> Tensor:
        """Matrix ``[size, size · scale]`` of `operators.resample.resample_matrix`."""
        large = torch.arange(size * self.scale)
        small = torch.arange(size)
        offset = large - self.scale * small[:, None]  # whole numbers, exact also far from 0
        weights = _cubic((offset + 0.5) / self.scale - 0.5)
        return weights / weights.sum(dim=1, keepdim=True)

    def _pseudo_inverse(self, matrix: Tensor) -> Tensor:
        """Pseudo-inverse of a matrix of `_downsampling`, [size · scale, size]."""
        gram = matrix @ matrix.mT
        twice = 2 * torch.eye(gram.shape[0])
        inverse = FIRST_GUESS * self.scale / 2 * twice
        for _ in range(ITERATIONS):
            inverse = inverse @ (twice - gram @ inverse)

        return matrix.mT @ inverse


class Denoising(nn.Module):
    """``restore denoise`` by the prior in one call: E[x0 | y] at one level of white noise.

    Args:
        denoiser: Denoiser in float32; of one class, if its network has classes.
        noise: Standard deviation for pixels in [0, 1] that is built in; None makes it an input.
    """

    def __init__(self, denoiser: Denoiser, noise: float | None = None) -> None:
        super().__init__()
        self.network = denoiser.network
        self.denoiser = denoiser
        self.noise = noise
        _ = denoiser.schedule.log_sigmas  # cached now, else an exporter's stand-in would be

    def forward(self, input: Tensor, noise: Tensor | None = None) -> Tensor:
        """Denoise a picture [1, 3, H, W] in [0, 1].

        Args:
            input: The picture.
            noise: Standard deviation for pixels in [0, 1], [1]; None is the one that is built in.
        """
        height, width = input.shape[-2:]
        stated = torch.tensor([self.noise]) if noise is None else noise
        level = 2 * stated.clamp_min(QUANTISATION_NOISE)
        whole = mirrored(2 * input - 1, self.denoiser.config.backbone.size_multiple)
        clean = self.denoiser(whole, level).clean[..., :height, :width]
        return ((clean + 1) / 2).clamp(0, 1)


def mirrored(x: Tensor, multiple: int) -> Tensor:
    """Return the picture as `restore.backbone.mirror_to_multiple`, with every size in the graph.

    That function asks whether there is anything to add, and the answer for the picture of the
    export would be the file's answer for all pictures.
    """
    for dim in (-2, -1):
        size = x.shape[dim]
        target = (size + multiple - 1) // multiple * multiple
        # exporters take the divisor of a remainder as a tensor only
        index = torch.remainder(torch.arange(target), torch.full((1,), 2 * size))
        x = x.index_select(dim, torch.minimum(index, 2 * size - 1 - index))

    return x


def _cubic(x: Tensor) -> Tensor:
    """Keys' cubic with a = −1/2, as `operators.resample.cubic`."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
