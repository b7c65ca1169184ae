"""The noise-prediction network in three layouts, fully described by a `BackboneConfig`."""

from pretrained.description import BackboneConfig
from restore.backbone.adm import AdmBackbone
from restore.backbone.base import Backbone, RMSNorm, mirror_to_multiple, timestep_embedding
from restore.backbone.ddpmpp import DdpmppBackbone
from restore.backbone.lean import LeanBackbone

__all__ = [
    "AdmBackbone",
    "Backbone",
    "BackboneConfig",
    "DdpmppBackbone",
    "LeanBackbone",
    "RMSNorm",
    "build_backbone",
    "mirror_to_multiple",
    "timestep_embedding",
]

LAYOUTS: dict[str, type[Backbone]] = {
    "adm": AdmBackbone,
    "ddpm++": DdpmppBackbone,
    "lean": LeanBackbone,
}


def build_backbone(config: BackboneConfig) -> Backbone:
    """Build the network that ``config`` describes, with random weights.

    Raises:
        ValueError: The description makes no network.
    """
    return LAYOUTS[config.layout](config)
