"""Layouts: how a code base names and arranges the weights of ADM's U-Net."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Set
from typing import Any, ClassVar

import torch
from torch import Tensor

from pretrained.errors import CheckpointError
from pretrained.layouts import unet
from pretrained.layouts.unet import Part, Skeleton

State = dict[str, Tensor]


class Layout(ABC):
    """A third-party state dict, with the names and the arrangement of its code base.

    A *stem* is a tensor's name without ``.weight`` or ``.bias``. Subclasses add what names do not
    show: `fixed` has what the code base fixes, `defaults` what its published networks have, and
    `undetermined` what the user must say because a wrong guess would load without an error.

    Attributes:
        name: Name of the layout in messages.
        block: Stems within a residual block, in the order of `unet.BLOCK`.
        attention: Stems within an attention block, in the order of `unet.ATTENTION`; the tensors of
            a tuple are concatenated.
        resize: Stem of the convolution at a change of resolution.
        unused: Suffixes of tensor names that inference does not need.
        conditional: Some of its networks see a low-resolution picture beside the noisy one.
        sine_first: The time embedding is [sin, cos] instead of [cos, sin].
        condition_first: The first convolution sees [condition, noisy picture] instead of the
            reverse.

    Args:
        state: The state dict.

    Raises:
        CheckpointError: It has no residual block.
    """

    name: ClassVar[str]
    block: ClassVar[tuple[str, ...]]
    attention: ClassVar[tuple[str | tuple[str, ...], ...]]
    resize: ClassVar[str] = "conv"
    unused: ClassVar[tuple[str, ...]] = ()
    conditional: ClassVar[bool] = False
    sine_first: bool = False
    condition_first: bool = False

    def __init__(self, state: State) -> None:
        self.state = state
        self.skeleton = self._skeleton(state.keys())
        if not (self.skeleton.levels and self.skeleton.blocks):
            raise CheckpointError(
                f"it has names of the layout {self.name}, but no block on its way down"
            )

    @classmethod
    @abstractmethod
    def recognises(cls, names: Set[str]) -> bool:
        """Whether a state dict with these names is of this layout."""

    @property
    @abstractmethod
    def single(self) -> tuple[str, ...]:
        """Stems of the layers that occur once, in the order of `unet.SINGLE`."""

    @abstractmethod
    def _skeleton(self, names: Set[str]) -> Skeleton:
        """Read the skeleton off the tensor names."""

    @abstractmethod
    def stem(self, part: Part) -> str:
        """Third-party name of a part."""

    @abstractmethod
    def fixed(self) -> dict[str, Any]:
        """Parts of the description that the code base or further tensors fix."""

    def defaults(self, inferred: Mapping[str, Any]) -> dict[str, Any]:
        """Parts of the description that hold for its published networks, as defaults.

        Args:
            inferred: What the shapes show of the backbone, see `unet.inferred_backbone`.
        """
        return {}

    def undetermined(self, inferred: Mapping[str, Any], hints: Mapping[str, Any]) -> str:
        """Describe what the user must say and the hints lack; empty if nothing is missing.

        Args:
            inferred: What the shapes show of the backbone, see `unet.inferred_backbone`.
            hints: Parts of the description that the user gives.
        """
        return ""

    def arranged(self, name: str, tensors: list[Tensor]) -> Tensor:
        """Arrange third-party tensors as `restore.backbone` has the tensor of this name."""
        tensor = torch.cat(tensors) if len(tensors) > 1 else tensors[0]
        if name.endswith((".qkv.weight", ".proj_out.weight")) and tensor.ndim in (2, 4):
            return tensor.reshape(*tensor.shape[:2], -1)
        if name == "time_embed.0.weight" and self.sine_first:
            return tensor.roll(tensor.shape[1] // 2, dims=1)
        if name == "input_blocks.0.0.weight" and self.condition_first:
            return tensor.roll(3, dims=1)

        return tensor

    def sources(self) -> dict[str, tuple[str, ...]]:
        """Third-party stems for each stem of `restore.backbone`."""
        found: dict[str, tuple[str, ...]] = {
            ours: (theirs,) for ours, theirs in zip(unet.SINGLE, self.single, strict=True)
        }

        for part in unet.parts(self.skeleton):
            stem = self.stem(part)
            for ours, theirs in zip(
                unet.stems(part, self.skeleton), self._theirs(part), strict=True
            ):
                several = (theirs,) if isinstance(theirs, str) else theirs
                found[f"{part.name}.{ours}"] = tuple(f"{stem}.{one}" for one in several)

        return found

    def _theirs(self, part: Part) -> tuple[str | tuple[str, ...], ...]:
        if part.kind == "attention":
            return self.attention
        if part.kind == "block" or self.skeleton.resblock_updown:
            return self.block
        return (self.resize,)


class Renamed:
    """A third-party state dict under the names of `restore.backbone`.

    Attributes:
        layout: The third-party layout with its state dict.
        sources: Third-party stems for each stem of `restore.backbone`.
        state: Tensors under the names of `restore.backbone`.
        inferred: What they show of the backbone, see `unet.inferred_backbone`.

    Raises:
        CheckpointError: Tensors are missing or have the wrong shape; the text has their third-party
            names.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.sources = layout.sources()
        self.state: State = {}

        for ours in (f"{stem}.{kind}" for stem in self.sources for kind in ("weight", "bias")):
            names = self.theirs(ours)
            if all(name in layout.state for name in names):
                self.state[ours] = self._arranged(ours, [layout.state[name] for name in names])

        try:
            self.inferred = unet.inferred_backbone(self.state, layout.skeleton)
        except KeyError as error:
            raise CheckpointError(faults(missing=self.theirs(error.args[0]))) from None

    def _arranged(self, ours: str, tensors: list[Tensor]) -> Tensor:
        try:
            return self.layout.arranged(ours, tensors)
        except (RuntimeError, IndexError):
            shapes = [
                f"{name} ({by(t.shape)})"
                for name, t in zip(self.theirs(ours), tensors, strict=True)
            ]
            raise CheckpointError(faults(wrong=shapes)) from None

    def theirs(self, name: str) -> tuple[str, ...]:
        """Third-party names of a tensor."""
        stem, _, kind = name.rpartition(".")
        return tuple(f"{one}.{kind}" for one in self.sources[stem])

    def check(self, backbone: Mapping[str, Any]) -> None:
        """Compare the tensors with those that a complete description asks for.

        Raises:
            CheckpointError: Tensors are missing, unexpected or of the wrong shape.
        """
        expected = unet.shapes(backbone, self.layout.skeleton)
        found = self.layout.state.keys()
        wanted = {name for ours in expected for name in self.theirs(ours)}
        wrong = [
            f"{', '.join(self.theirs(name))} ({by(self.state[name].shape)} instead of {by(shape)})"
            for name, shape in expected.items()
            if name in self.state and tuple(self.state[name].shape) != shape
        ]
        found_wrong = faults(
            missing=sorted(wanted - found),
            unexpected=sorted(
                name for name in found - wanted if not name.endswith(self.layout.unused)
            ),
            wrong=wrong,
        )
        if found_wrong:
            raise CheckpointError(found_wrong)


def faults(
    missing: Iterable[str] = (), unexpected: Iterable[str] = (), wrong: Iterable[str] = ()
) -> str:
    """Describe wrong tensors by up to three names of each kind; empty if there are none."""
    found = {
        "missing": list(missing),
        "unexpected": list(unexpected),
        "of the wrong shape": list(wrong),
    }
    described = [
        f"{len(names)} {what}: {', '.join(names[:3])}{' …' if len(names) > 3 else ''}"
        for what, names in found.items()
        if names
    ]
    return (
        f"the tensors are not those of such a network; {'; '.join(described)}" if described else ""
    )


def by(shape: Iterable[int]) -> str:
    """``3x64x3x3`` for a shape."""
    return "x".join(map(str, shape))
