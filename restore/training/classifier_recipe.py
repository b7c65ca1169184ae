"""The part of a recipe that trains a classifier of noisy pictures instead of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pretrained.classifier_description import ClassifierConfig, Pool
from pretrained.description import BackboneConfig, ModelConfig
from restore.errors import BadArgument

# Backbone and schedule of a classifier, where its recipe leaves them out.
MODEL: dict[str, Any] = {
    "schedule": {"name": "linear"},
    "backbone": {
        "layout": "adm",
        "condition_channels": 0,
        "condition_map": False,
        "channels": 32,
        "channel_multipliers": (1, 2, 2),
        "blocks": 1,
        "attention_factors": (4,),
        "middle_attention": True,
        "head_channels": 16,
        "norm": "group",
        "resblock_updown": True,
        "patch": 1,
    },
}


@dataclass(frozen=True)
class ClassifierRecipe:
    """A classifier that guides a model (Dhariwal, Nichol 2021, arXiv 2105.05233, section 4.1).

    It learns by cross-entropy from pictures with the noise levels of the recipe's objective. The
    recipe's model describes the network and the noise schedule.

    Attributes:
        pool: See `pretrained.classifier_description.ClassifierConfig`.
        names: Names of the classes; empty takes those of the folders.
    """

    pool: Pool = "attention"
    names: tuple[str, ...] = ()

    def config(self, model: ModelConfig, crop: int) -> ClassifierConfig:
        """Return the description of the classifier.

        Args:
            model: The recipe's model, for backbone, schedule and size.
            crop: Side of the training crops, the size of a classifier with an attention pool.

        Raises:
            BadArgument: They make no classifier.
        """
        size = model.size or (crop if self.pool == "attention" else None)
        try:
            return ClassifierConfig(
                _of_classifier(model.backbone),
                dict(model.schedule),
                len(self.names),
                self.pool,
                size,
                self.names,
            )
        except ValueError as error:
            raise BadArgument(f"[model.backbone] and [classifier]: {error}") from None


def _of_classifier(backbone: BackboneConfig) -> BackboneConfig:
    """Return the backbone, whose classes are those of a model that is told them."""
    if backbone.classes:
        raise BadArgument(
            "[model.backbone] classes: must be 0; the folders say which classes a classifier tells"
        )
    return backbone
