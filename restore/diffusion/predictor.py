"""Predictor: a small network that restores a picture in one call.

Whang et al. 2022 (arXiv 2112.02475) and SRDiff (Li et al. 2021, arXiv 2104.14951) predict the
picture in one call and draw the residual with a diffusion model; PMRF (Ohayon et al. 2024, arXiv
2410.00418) shows that the least-squares estimate is the right place to start from. One predictor
serves every operator, because it sees what is known of the picture (`restore.diffusion.evidence`)
instead of the measurement.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from pretrained.description import SHOWN, PredictorConfig, Shown
from restore.backbone import Backbone, mirror_to_multiple
from restore.diffusion.evidence import Evidence

__all__ = ["PREFIX", "SHOWN", "Predictor", "PredictorConfig", "Shown", "numbers_of", "predicted"]

# Prefix of the predictor's tensors in a checkpoint with both networks.
PREFIX = "predictor."


class Predictor:
    """A network that predicts the clean picture.

    Args:
        network: Anything callable as `Backbone` is.
        config: Its description.
    """

    def __init__(self, network: Callable[..., Tensor], config: PredictorConfig) -> None:
        self.network = cast(Backbone, network)  # of which functions have the call alone
        self.config = config

    def __call__(self, evidence: Evidence, numbers: Tensor | None = None) -> Tensor:
        """Least-squares estimate of the picture, [B, 3, H, W] in about [-1, 1], float32.

        Args:
            evidence: Of pictures of any size.
            numbers: `numbers_of` the whole picture, if the evidence is a piece of it.
        """
        return predicted(self.network, self.config, evidence, numbers)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.network.parameters()).device

    def in_float32(self) -> Predictor:
        """Return the same network in float32, with the values its weights were rounded to."""
        return Predictor(copy.deepcopy(self.network).set_compute_dtype(torch.float32), self.config)


def numbers_of(evidence: Evidence) -> Tensor:
    """Inputs of every block of the network: the maximum of both maps, in thousandths, [B, 2].

    So holes do not count, however large they are; the map shows them.
    """
    return 1000 * torch.cat([evidence.known, evidence.noise.sqrt()], dim=1).amax(dim=(2, 3))


def predicted(
    network: Callable[[Tensor, Tensor], Tensor],
    config: PredictorConfig,
    evidence: Evidence,
    numbers: Tensor | None = None,
) -> Tensor:
    """Return the evidence plus the residual that the network predicts.

    The network sees the square root of the noise level, which resolves small levels better.

    Args:
        network: Map from [B, 5, h, w], sides multiples of ``config.backbone.size_multiple``, and
            the numbers [B, 2] to [B, 3, h, w].
        config: Description of the network.
        evidence: Of pictures of any size.
        numbers: None takes `numbers_of` the evidence.
    """
    height, width = evidence.picture.shape[-2:]
    seen = torch.cat([evidence.picture, evidence.known, evidence.noise.sqrt()], dim=1)
    seen = mirror_to_multiple(seen, config.backbone.size_multiple)
    added = network(seen, numbers_of(evidence) if numbers is None else numbers)
    return evidence.picture + added[..., :height, :width].float()
