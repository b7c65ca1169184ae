"""What the denoisers of pipelines share: a network that is told a text or a noise level."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import Self

import torch

from restore.diffusion.denoiser import Denoiser
from restore.diffusion.protocol import DenoiserLike
from restore.errors import BadArgument
from restore.latent.network import LatentNetwork


class ToldDenoiser(DenoiserLike):
    """A denoiser whose network is told something that is the same in every call.

    Args:
        denoise: The network with its description.
    """

    predictor: None

    def __init__(self, denoise: Denoiser) -> None:
        self.config = denoise.config
        self.predictor = None
        self._denoise = denoise

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self._denoise.device

    @property
    def network(self) -> LatentNetwork:
        """The network with what it is told."""
        network = self._denoise.network
        assert isinstance(network, LatentNetwork)
        return network

    def of_class(self, label: int | None) -> Self:
        if label is not None:
            raise BadArgument(f"`label`={label}: this model knows no classes")
        return self

    def told(self, network: LatentNetwork) -> Self:
        """Return the denoiser of a network with the same weights that is told something else."""
        other = copy.copy(self)
        other._denoise = Denoiser(network, self.config)
        other._prepare()
        return other

    @abstractmethod
    def _prepare(self) -> None:
        """Make what depends on the network with what it is told."""
