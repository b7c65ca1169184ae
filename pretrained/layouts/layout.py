"""A way of naming and arranging the weights of one and the same U-Net."""

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
    """What a code base calls the parts of ADM's U-Net, and how its weights are arranged in them; of
    one state dict.

    Subclasses say what names cannot: in `said` what the code base fixes, in `usual` what its
    published networks have, and in `unsaid` what someone must say, because a wrong guess would load
    without complaint.
    """

    name: ClassVar[str]
    block: ClassVar[tuple[str, ...]]
    """Its stems in a residual block, in the order of `unet.BLOCK`."""
    attention: ClassVar[tuple[str | tuple[str, ...], ...]]
    """In the order of `unet.ATTENTION`; several stems are joined in their order."""
    single: ClassVar[tuple[str, ...]]
    """In the order of `unet.SINGLE`."""
    resize: ClassVar[str] = "conv"
    """Of the convolution that follows or does a change of resolution."""
    unused: ClassVar[tuple[str, ...]] = ()
    """Ends of names that a prediction does not need."""
    conditional: ClassVar[bool] = False
    """Whether some of its networks see a low-resolution picture beside the noisy one."""
    sine_first: bool = False
    """Whether the time embedding is [sin, cos]."""
    condition_first: bool = False
    """Whether the first convolution sees [condition, noisy picture]."""

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

    @abstractmethod
    def _skeleton(self, names: Set[str]) -> Skeleton: ...

    @abstractmethod
    def stem(self, part: Part) -> str:
        """What it calls a part."""

    @abstractmethod
    def said(self) -> dict[str, Any]:
        """What its code or its further tensors fix, as parts of a
        `restore.diffusion.denoiser.ModelConfig`.
        """

    def usual(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """What its published networks have, where nobody says anything else; ``told`` is the
        network's backbone.
        """
        return {}

    def unsaid(self, told: Mapping[str, Any], hints: Mapping[str, Any]) -> str:
        """What must be said and is not among the hints, in words; nothing if all is."""
        return ""

    def arranged(self, name: str, tensors: list[Tensor]) -> Tensor:
        """The tensor that is ours under a name."""
        tensor = torch.cat(tensors) if len(tensors) > 1 else tensors[0]
        if name.endswith((".qkv.weight", ".proj_out.weight")) and tensor.ndim in (2, 4):
            return tensor.reshape(*tensor.shape[:2], -1)
        if name == "time_embed.0.weight" and self.sine_first:
            return tensor.roll(tensor.shape[1] // 2, dims=1)
        if name == "input_blocks.0.0.weight" and self.condition_first:
            return tensor.roll(3, dims=1)

        return tensor

    def sources(self) -> dict[str, tuple[str, ...]]:
        """For each of our stems, theirs."""
        found = {ours: (theirs,) for ours, theirs in zip(unet.SINGLE, self.single, strict=True)}
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
        return (
            self.block if part.kind == "block" or self.skeleton.resblock_updown else (self.resize,)
        )


class Renamed:
    """A foreign state dict under our names.

    Attributes:
        state: its tensors by our names.
        told: what they tell of the backbone.

    Raises:
        CheckpointError: tensors are missing or left over, or have the wrong shape; the text has
            their own names.
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
            self.told = unet.told_by_shapes(self.state, layout.skeleton)
        except KeyError as error:
            raise CheckpointError(_faults(missing=self.theirs(error.args[0]))) from None

    def _arranged(self, ours: str, tensors: list[Tensor]) -> Tensor:
        try:
            return self.layout.arranged(ours, tensors)
        except (RuntimeError, IndexError):
            shapes = [
                f"{name} ({_by(t.shape)})"
                for name, t in zip(self.theirs(ours), tensors, strict=True)
            ]
            raise CheckpointError(_faults(wrong=shapes)) from None

    def theirs(self, name: str) -> tuple[str, ...]:
        """What they call a tensor of ours."""
        stem, _, kind = name.rpartition(".")
        return tuple(f"{one}.{kind}" for one in self.sources[stem])

    def check(self, backbone: Mapping[str, Any]) -> None:
        """See whether the tensors are those of a complete description.

        Raises:
            CheckpointError: they are not.
        """
        expected = unet.shapes(backbone, self.layout.skeleton)
        found = self.layout.state.keys()
        wanted = {name for ours in expected for name in self.theirs(ours)}
        wrong = [
            f"{', '.join(self.theirs(name))} ({_by(self.state[name].shape)} instead of "
            f"{_by(shape)})"
            for name, shape in expected.items()
            if name in self.state and tuple(self.state[name].shape) != shape
        ]
        faults = _faults(
            missing=sorted(wanted - found),
            unexpected=sorted(
                name for name in found - wanted if not name.endswith(self.layout.unused)
            ),
            wrong=wrong,
        )
        if faults:
            raise CheckpointError(faults)


def _faults(
    missing: Iterable[str] = (), unexpected: Iterable[str] = (), wrong: Iterable[str] = ()
) -> str:
    found = {
        "missing": list(missing),
        "unexpected": list(unexpected),
        "of the wrong shape": list(wrong),
    }
    told = [
        f"{len(names)} {what}: {', '.join(names[:3])}{' …' if len(names) > 3 else ''}"
        for what, names in found.items()
        if names
    ]
    return f"the tensors are not those of such a network; {'; '.join(told)}" if told else ""


def _by(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))
