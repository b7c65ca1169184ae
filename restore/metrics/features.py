"""Networks that describe a picture by some hundred numbers, for distances of sets of pictures."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from restore.errors import BadArgument, FileAccess, UnreadableInput
from restore.metrics.quality import Lpips, find_lpips_trunk

# The word for AlexNet's trunk, the network at hand.
ALEXNET = "alexnet"
# Smallest side of a picture for AlexNet's two poolings.
ALEXNET_SMALLEST = 31


@dataclass(frozen=True)
class FeatureNetwork:
    """A network that describes pictures, and its name.

    Attributes:
        name: Name for the output: distances by different networks do not compare.
        sha256: SHA-256 of the file, hexadecimal.
        run: From uint8 [N, 3, H, W] on `device` to features [N, D].
        device: Device of the network.
        smallest: Smallest side of a picture in pixels.
    """

    name: str
    sha256: str
    run: Callable[[Tensor], Tensor]
    device: torch.device
    smallest: int = 1

    def __call__(self, pictures: Tensor) -> NDArray[np.float64]:
        """Describe pictures.

        Args:
            pictures: uint8 [N, 3, H, W].

        Returns:
            float64 [N, D].

        Raises:
            UnreadableInput: The network does not take such pictures, or returns no such features.
        """
        try:
            with torch.inference_mode():
                features = self.run(pictures.to(self.device))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise UnreadableInput(f"{self.name}: the network failed: {reason}") from error

        if not isinstance(features, Tensor) or features.shape[:1] != pictures.shape[:1]:
            raise UnreadableInput(f"{self.name}: the network returns no row for each picture")

        found: NDArray[np.float64] = features.flatten(1).double().cpu().numpy()
        if not np.isfinite(found).all():
            raise UnreadableInput(f"{self.name}: the network returns numbers that are not finite")
        return found


def load_features(text: str, device: torch.device) -> FeatureNetwork:
    """Load a network.

    Args:
        text: ``alexnet``, or a TorchScript file whose module takes uint8 [N, 3, H, W] and returns
            features [N, D], with ``return_features=True`` if its `forward` has that argument, as
            the Inception network of StyleGAN's authors.
        device: Device of the network.

    Raises:
        BadArgument: Neither the word nor a file.
        Unavailable: AlexNet's weights are not there.
        FileAccess: The file cannot be read.
        UnreadableInput: It is no TorchScript.
    """
    if text == ALEXNET:
        trunk = find_lpips_trunk()
        lpips = Lpips(trunk, device)
        name = "AlexNet, fifth convolution, mean over the picture"
        return FeatureNetwork(
            name, _digest(trunk), lambda x: _alexnet(lpips, x), device, ALEXNET_SMALLEST
        )

    path = Path(text)
    if not path.is_file():
        raise BadArgument(
            f"`features`={text}: must be {ALEXNET} or a TorchScript file; no such file"
        )

    digest = _digest(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PyTorch recommends torch.export
            module = torch.jit.load(str(path), map_location=device).eval()
        arguments = [argument.name for argument in module.forward.schema.arguments]
    except Exception as error:  # damaged files raise whatever their reader happens to raise
        raise UnreadableInput(f"`features`={path}: is no TorchScript network") from error

    options = {"return_features": True} if "return_features" in arguments else {}
    return FeatureNetwork(path.name, digest, lambda x: module(x, **options), device)


def _alexnet(lpips: Lpips, pictures: Tensor) -> Tensor:
    """Mean over the picture of AlexNet's 256 last features, [N, 256]."""
    network = lpips.network
    x = network.scaling_layer(pictures.float() / 127.5 - 1)
    features: Tensor = network.net(x).relu5.mean(dim=(2, 3))
    return features


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FileAccess(f"{path}: cannot be read: {error.strerror or error}") from error
