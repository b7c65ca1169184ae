"""Quality of a restored picture: PSNR, SSIM and LPIPS, and consistency with the measurement.

Pictures are float32 tensors [B, 3, H, W] in [0, 1] unless said otherwise; every metric returns [B],
one number per picture. Nothing here rounds to 8 bits or clips: pass what the user would get.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from pretrained.errors import CheckpointError
from pretrained.store import installed, source_of
from restore.errors import BadArgument, Unavailable, UnreadableInput

# Environment variable with the file of AlexNet's convolutions.
TRUNK_VARIABLE = "RESTORE_LPIPS_TRUNK"
# Name of AlexNet in the catalogue.
TRUNK = "lpips-alex"

# Side of SSIM's window in pixels.
_SSIM_WINDOW = 11
# Below this side the second max-pooling of AlexNet has nothing left to pool.
_LPIPS_SMALLEST = 31


class LinearOperator(Protocol):
    """The part of a degradation that `consistency` needs."""

    def A(self, x: Tensor) -> Tensor:
        """Degrade pictures [B, 3, H, W]."""
        ...


def psnr(estimate: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio over all pixels and the three colours, peak 1.

    Args:
        estimate: [B, 3, H, W] in [0, 1].
        truth: [B, 3, H, W] in [0, 1].

    Returns:
        [B], in dB; infinite for equal pictures.

    Raises:
        BadArgument: The shapes differ.
    """
    _check_pair(estimate, truth)
    return -10 * (estimate - truth).square().flatten(1).mean(1).log10()


def luma(picture: Tensor) -> Tensor:
    """Y of ITU-R BT.601 with studio swing, as MATLAB's `rgb2ycbcr` gives it, without its rounding.

    Y = (16 + 65.481 R + 128.553 G + 24.966 B) / 255, so black is 16/255 and white 235/255.

    Args:
        picture: [B, 3, H, W] in [0, 1].

    Returns:
        [B, 1, H, W].
    """
    red, green, blue = picture.split(1, dim=1)
    return (16 + 65.481 * red + 128.553 * green + 24.966 * blue) / 255


def psnr_y(estimate: Tensor, truth: Tensor, border: int = 0) -> Tensor:
    """PSNR of the luma alone, the convention of the super-resolution literature.

    Args:
        estimate: [B, 3, H, W] in [0, 1].
        truth: [B, 3, H, W] in [0, 1].
        border: Pixels left out on every side; the literature takes the scale factor.

    Returns:
        [B], in dB (peak 1 on `luma`, that is 255 on MATLAB's 8-bit Y).

    Raises:
        BadArgument: The shapes differ, or the border leaves no pixel.
    """
    _check_pair(estimate, truth)
    height, width = truth.shape[-2:]
    if border < 0 or 2 * border >= min(height, width):
        raise BadArgument(
            f"a border of {border} leaves nothing of a picture of {width}x{height} pixels"
        )

    inside = (..., slice(border, height - border), slice(border, width - border))

    return psnr(luma(estimate)[inside], luma(truth)[inside])


def ssim(estimate: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity, by kornia, in the convention of Wang et al.

    An 11x11 Gaussian window of standard deviation 1.5 wholly inside the picture, K1 = 0.01, K2 =
    0.03, population covariance, on R, G and B apart, averaged over positions and colours. The same
    number as scikit-image's `structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False)` on RGB.

    Args:
        estimate: [B, 3, H, W] in [0, 1], at least 11 pixels each way.
        truth: [B, 3, H, W] in [0, 1].

    Returns:
        [B], at most 1.

    Raises:
        BadArgument: The shapes differ, or the pictures are smaller than the window.

    References:
        Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image quality assessment: from error
        visibility to structural similarity", IEEE Trans. Image Processing 13(4), 2004.
    """
    from kornia.metrics import ssim as ssim_map

    _check_pair(estimate, truth, smallest=_SSIM_WINDOW)
    return ssim_map(estimate, truth, _SSIM_WINDOW, max_val=1.0, padding="valid").flatten(1).mean(1)


def consistency(operator: LinearOperator, estimate: Tensor, measurement: Tensor) -> Tensor:
    """Root mean square of A x − y: the distance of a restored picture from the measurement.

    The mean is over every entry of the measurement, also those that a mask sets to 0.

    Args:
        operator: The degradation A.
        estimate: [B, 3, H, W], in any range.
        measurement: [B, ...] of the shape of `operator.A(estimate)`, in the same range.

    Returns:
        [B], in the units of the arguments: for pictures in [0, 1] it compares with a user's noise
        level.

    Raises:
        BadArgument: The measurement has another shape than A x.
    """
    predicted = operator.A(estimate)
    if predicted.shape != measurement.shape:
        raise BadArgument(
            f"the measurement has the shape {tuple(measurement.shape)}, A x has "
            f"{tuple(predicted.shape)}"
        )

    return (predicted - measurement).square().flatten(1).mean(1).sqrt()


class Lpips:
    """Learned perceptual distance, LPIPS 0.1 with AlexNet: `Lpips(trunk)(estimate, truth)`.

    The calibrated heads come with the `lpips` package, the five convolutions of AlexNet from a
    file. Nothing is ever downloaded. 0 for equal pictures, growing with the perceived difference.

    Args:
        trunk: File with torchvision's AlexNet, whole or `features` only, as .safetensors or .pth,
            under torchvision's names (`features.0.weight`, …).
        device: Device of the network.

    Raises:
        UnreadableInput: The file cannot be read or does not hold these convolutions.

    References:
        R. Zhang, P. Isola, A. A. Efros, E. Shechtman, O. Wang, "The Unreasonable Effectiveness of
        Deep Features as a Perceptual Metric", CVPR 2018, arXiv:1801.03924.
    """

    def __init__(self, trunk: str | os.PathLike[str], device: str | torch.device = "cpu") -> None:
        from lpips import LPIPS

        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
            network = LPIPS(net="alex", pnet_rand=True, verbose=False)
        _load_trunk(network.net, Path(trunk))
        self.network = network.requires_grad_(False).to(device)

    def __call__(self, estimate: Tensor, truth: Tensor) -> Tensor:
        """Distance of each pair.

        Args:
            estimate: [B, 3, H, W] in [0, 1], at least 31 pixels each way, on the network's device.
            truth: [B, 3, H, W] in [0, 1], on the same device.

        Returns:
            [B], at least 0.

        Raises:
            BadArgument: The shapes differ, or the pictures are too small.
        """
        _check_pair(estimate, truth, smallest=_LPIPS_SMALLEST)
        return self.network(estimate, truth, normalize=True).flatten()


def find_lpips_trunk(trunk: str | os.PathLike[str] | None = None) -> Path:
    """File with AlexNet's convolutions.

    That is the argument, else $RESTORE_LPIPS_TRUNK, else what ``restore models get lpips-alex``
    has installed, else what torchvision's cache has.

    Raises:
        Unavailable: The named file does not exist, or none is named and both caches have none.
    """
    named = trunk or os.environ.get(TRUNK_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise Unavailable(f"LPIPS: there is no file {named} with AlexNet's convolutions")
        return Path(named)

    if (installed := _installed_trunk()) is not None:
        return installed

    cache = Path(torch.hub.get_dir()) / "checkpoints"
    cached = sorted(cache.glob("alexnet-owt-*.pth"))
    if not cached:
        raise Unavailable(
            f"LPIPS needs AlexNet's weights: restore models get {TRUNK} downloads them, 244 MB; or "
            f"put torchvision's alexnet-owt-*.pth into {cache}, or name the file in the "
            f"environment variable {TRUNK_VARIABLE}"
        )

    return cached[-1]


def _installed_trunk() -> Path | None:
    """Return the trunk in the cache of checkpoints; None if it is not installed."""
    source = source_of(TRUNK)
    if source is None:  # the catalogue of somebody else
        return None

    try:
        found = installed(source)
    except CheckpointError as error:
        raise Unavailable(f"LPIPS: {error}") from None

    return None if found is None else found.weights


def load_lpips(
    trunk: str | os.PathLike[str] | None = None, device: str | torch.device = "cpu"
) -> Lpips:
    """LPIPS with the trunk that `find_lpips_trunk` finds.

    Raises:
        Unavailable: There is none.
        UnreadableInput: As `Lpips`.
    """
    return Lpips(find_lpips_trunk(trunk), device)


def _load_trunk(net: torch.nn.Module, path: Path) -> None:
    """Put torchvision's `features.N.*` into lpips' `sliceM.N.*`."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
        net.load_state_dict(
            {name: weights["features." + name.split(".", 1)[1]] for name in net.state_dict()}
        )
    except Exception as error:  # damaged files raise whatever their reader happens to raise
        raise UnreadableInput(
            f"{path} does not hold torchvision's AlexNet convolutions: {error}"
        ) from error


def _check_pair(estimate: Tensor, truth: Tensor, smallest: int = 1) -> None:
    if estimate.shape != truth.shape:
        raise BadArgument(
            f"pictures of shapes {tuple(estimate.shape)} and {tuple(truth.shape)} do not compare"
        )

    height, width = truth.shape[-2:]
    if min(height, width) < smallest:
        raise BadArgument(
            f"pictures of {width}x{height} pixels are too small: {smallest} are needed each way"
        )
