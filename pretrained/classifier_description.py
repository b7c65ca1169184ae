"""Description of a classifier of noisy pictures: the fields of the JSON file beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pretrained.description import BackboneConfig

Pool = Literal["attention", "mean"]

# The key that tells the description of a classifier from that of a model of pictures.
MARK = "pool"

# What the backbone of every classifier has: it sees the noisy picture alone.
_BACKBONE: Mapping[str, Any] = {
    "layout": "adm",
    "condition_channels": 0,
    "condition_map": False,
    "learned_variance": False,
    "noise_map": False,
    "noisy_input": True,
    "classes": 0,
    "times": 1,
    "patch": 1,
    "middle_attention": True,
}


@dataclass(frozen=True)
class ClassifierConfig:
    """Description of a classifier that was trained on noisy pictures, to guide a model.

    It is the half of ADM's U-Net that goes down, with its middle (Dhariwal, Nichol 2021, arXiv
    2105.05233, section 4), and sees the picture and the step as a model of ``schedule`` does.

    Attributes:
        backbone: The network; fields of the half that is missing have no meaning.
        schedule: Name and options of the noise schedule, see `pretrained.description.ModelConfig`.
        classes: Number of classes.
        pool: What makes one vector of a picture: ``attention`` (arXiv 2103.00020, section 2.3),
            whose heads have the backbone's ``head_channels``, or the ``mean`` of all positions.
        size: Side in pixels of the pictures that it takes; None for any, with ``mean`` alone.
        names: Names of the classes; empty if they are not known.

    Raises:
        ValueError: A field is not one of its options, or fields contradict each other.
    """

    backbone: BackboneConfig
    schedule: Mapping[str, Any]
    classes: int
    pool: Pool = "attention"
    size: int | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if wrong := [
            f"{name} = {value}"
            for name, value in _BACKBONE.items()
            if getattr(self.backbone, name) != value
        ]:
            raise ValueError(f"a classifier's backbone needs {', '.join(wrong)}")
        if self.pool not in get_args(Pool):
            raise ValueError(f"pool must be {' or '.join(get_args(Pool))}, not {self.pool!r}")
        if self.classes < 2:
            raise ValueError(f"a classifier tells at least 2 classes apart, not {self.classes}")
        if self.names and len(self.names) != self.classes:
            raise ValueError(f"{len(self.names)} names for {self.classes} classes")

        self._check_size()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ClassifierConfig:
        """Invert `dataclasses.asdict`, also after a round trip through JSON.

        Raises:
            TypeError: Unknown or missing keys.
        """
        backbone = BackboneConfig.from_dict(data["backbone"])
        names = tuple(data.get("names", ()))
        return cls(**{**data, "backbone": backbone, "names": names})

    def _check_size(self) -> None:
        multiple = self.backbone.size_multiple
        if self.size is None and self.pool == "attention":
            raise ValueError("a classifier with pool = attention needs a size")
        if self.size is not None and (self.size < 1 or self.size % multiple):
            raise ValueError(
                f"size must be a multiple of {multiple} for this classifier, not {self.size}"
            )

    @property
    def positions(self) -> int:
        """Number of positions at the lowest resolution; 0 if it takes pictures of any size."""
        return 0 if self.size is None else (self.size // self.backbone.size_multiple) ** 2


def is_classifier(description: Mapping[str, Any]) -> bool:
    """Whether a description is of a classifier instead of a model of pictures."""
    return MARK in description
