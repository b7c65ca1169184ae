"""The predictor: a small network that is called once and answers with the restored picture.

Predict, then refine: Whang et al. 2022 (arXiv 2112.02475) and SRDiff (Li et al. 2021, arXiv
2104.14951) let a network predict the picture in one call and a diffusion model draw what is missing
from it; PMRF (Ohayon et al. 2024, arXiv 2410.00418) shows that the least-squares estimate is the
right place to start from. One predictor serves every operator, because it is shown what is known of
the picture (`restore.diffusion.evidence`) instead of the raw measurement.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from pretrained.description import SHOWN, PredictorConfig, Shown
from restore.backbone import Backbone, mirror_to_multiple
from restore.diffusion.evidence import Evidence

__all__ = ["PREFIX", "SHOWN", "Predictor", "PredictorConfig", "Shown", "numbers_of", "predicted"]

PREFIX = "predictor."
"""Of the predictor's tensors in a checkpoint that holds both networks."""


class Predictor:
    """A network that answers with the clean picture.

    Args:
        network: anything callable as `Backbone` is.
        config: its description.
    """

    def __init__(self, network: Backbone, config: PredictorConfig) -> None:
        self.network = network
        self.config = config

    def __call__(self, evidence: Evidence, numbers: Tensor | None = None) -> Tensor:
        """The least-squares estimate of the picture, [B, 3, H, W] in about [-1, 1], float32; H and
        W of any size.

        Args:
            numbers: of the whole picture, see `numbers_of`, where the evidence is a piece of it.
        """
        return predicted(self.network, self.config, evidence, numbers)

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def in_float32(self) -> Predictor:
        """The same network, whose weights keep the values that they were rounded to."""
        return Predictor(copy.deepcopy(self.network).set_compute_dtype(torch.float32), self.config)


def numbers_of(evidence: Evidence) -> Tensor:
    """What every block of the network is told of pictures: the largest of either map, in
    thousandths, [B, 2].

    So holes count for nothing, whatever part of a picture they take: the map shows them.
    """
    return 1000 * torch.cat([evidence.known, evidence.noise.sqrt()], dim=1).amax(dim=(2, 3))


def predicted(
    network: Callable[[Tensor, Tensor], Tensor],
    config: PredictorConfig,
    evidence: Evidence,
    numbers: Tensor | None = None,
) -> Tensor:
    """The evidence plus what the network adds to it.

    The square root of the noise level is shown, which tells small levels apart.

    Args:
        network: from [B, 5, h, w], sides multiples of ``config.backbone.size_multiple``, and the
            numbers [B, 2], to [B, 3, h, w].
        numbers: None is `numbers_of` the evidence.
    """
    height, width = evidence.picture.shape[-2:]
    seen = torch.cat([evidence.picture, evidence.known, evidence.noise.sqrt()], dim=1)
    seen = mirror_to_multiple(seen, config.backbone.size_multiple)
    added = network(seen, numbers_of(evidence) if numbers is None else numbers)
    return evidence.picture + added[..., :height, :width].float()
