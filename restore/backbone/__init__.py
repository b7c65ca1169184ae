"""The shared noise-prediction network, in two layouts, described whole by a small config."""

from restore.backbone.adm import AdmBackbone
from restore.backbone.base import Backbone, RMSNorm, timestep_embedding
from restore.backbone.config import BackboneConfig
from restore.backbone.lean import LeanBackbone

__all__ = [
    "AdmBackbone",
    "Backbone",
    "BackboneConfig",
    "LeanBackbone",
    "RMSNorm",
    "build_backbone",
    "timestep_embedding",
]


def build_backbone(config: BackboneConfig) -> Backbone:
    """The network that ``config`` describes, with random weights.

    Raises:
        ValueError: a description that makes no network.
    """
    return (LeanBackbone if config.layout == "lean" else AdmBackbone)(config)
