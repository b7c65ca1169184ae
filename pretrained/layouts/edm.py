"""ADM's U-Net as trained by EDM (Karras et al. 2022, arXiv 2206.00364), an exported state dict."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from typing import Any

import torch
from torch import Tensor

from pretrained.errors import CheckpointError
from pretrained.layouts.layout import Layout, State
from pretrained.layouts.unet import Part, Skeleton, counted

HEAD_CHANNELS = 64

# GroupNorm's groups and their least width; below 128 channels EDM has fewer groups, which
# `restore.backbone` does not support.
GROUPS, GROUP_CHANNELS = 32, 4


class Edm(Layout):
    """Layout of EDM's code.

    Args:
        state: The state dict.

    Raises:
        CheckpointError: An unsupported network of EDM's code, or no residual block.
    """

    name = "EDM"
    block = ("norm0", "conv0", "affine", "norm1", "conv1", "skip")
    attention = ("norm2", "qkv", "proj")
    unused = ("resample_filter", "map_augment.weight")

    def __init__(self, state: State) -> None:
        state = {name.removeprefix("model."): tensor for name, tensor in state.items()}
        self._refuse_others(state)
        found = {int(match[1]) for name in state if (match := re.match(r"enc\.(\d+)x\d+_", name))}
        self.sides = sorted(found, reverse=True)
        super().__init__(state)

    @classmethod
    def recognises(cls, names: Set[str]) -> bool:
        return {"map_layer0.weight", "map_layer1.weight"} <= {
            name.removeprefix("model.") for name in names
        }

    @property
    def single(self) -> tuple[str, ...]:
        return (
            "map_layer0",
            "map_layer1",
            "map_label",
            self._coded("enc", 0, "conv"),
            "out_norm",
            "out_conv",
        )

    def _skeleton(self, names: Set[str]) -> Skeleton:
        levels = range(len(self.sides))
        return Skeleton(
            len(levels),
            counted(names, self._coded("enc", 0, "block")),
            frozenset(
                level
                for level in levels
                if f"{self._coded('enc', level, 'block0')}.qkv.weight" in names
            ),
            middle_attention=f"{self._coded('dec', -1, 'in0')}.qkv.weight" in names,
            resblock_updown=True,
        )

    def stem(self, part: Part) -> str:
        """See `Layout.stem`.

        Attention has the name of its residual block, and a change of resolution belongs to the
        level that it leads to.
        """
        if part.side == "middle":
            return self._coded("dec", -1, f"in{part.index}")
        coder = "enc" if part.side == "down" else "dec"
        if part.kind == "resize":
            return self._coded(coder, part.level + (1 if part.side == "down" else -1), part.side)
        return self._coded(coder, part.level, f"block{part.index}")

    def _coded(self, coder: str, level: int, layer: str) -> str:
        """Name of a layer of the encoder (``enc``) or decoder (``dec``)."""
        side = self.sides[level] if self.sides else 0
        return f"{coder}.{side}x{side}_{layer}"

    def fixed(self) -> dict[str, Any]:
        fixed = {
            "head_channels": HEAD_CHANNELS,
            "qkv_order": "new",
            "norm_eps": 1e-5,
            "norm_groups": GROUPS,
        }
        return {"size": self.sides[0], "backbone": fixed}

    def defaults(self, inferred: Mapping[str, Any]) -> dict[str, Any]:
        """See `Layout.defaults`.

        Raises:
            CheckpointError: Norms with an unsupported number of groups.
        """
        multipliers = [*inferred["channel_multipliers"], *([1] if self.skeleton.plus else [])]
        narrowest = inferred["channels"] * min(multipliers)
        if narrowest < GROUPS * GROUP_CHANNELS:
            raise CheckpointError(
                f"its norms over {narrowest:g} channels have fewer than {GROUPS} groups in EDM's "
                f"code; known are networks of {GROUPS * GROUP_CHANNELS} channels or more"
            )

        return {
            "parameterization": "edm",
            "time": "log_sigma",
            "sigma_data": 0.5,
            "schedule": {"name": "edm"},
        }

    def arranged(self, name: str, tensors: list[Tensor]) -> Tensor:
        """See `Layout.arranged`.

        Queries, keys and values alternate channel by channel; the class embedding is a linear layer
        of one-hot vectors.
        """
        tensor = super().arranged(name, tensors)
        if name == "label_emb.weight":
            return tensor.T
        if ".qkv." in name:
            return torch.cat([tensor[part::3] for part in range(3)])
        return tensor

    def _refuse_others(self, state: State) -> None:
        """Refuse unsupported networks of EDM's code.

        Raises:
            CheckpointError: The state dict is of such a network.
        """
        if "u" in state:
            raise CheckpointError(
                "trained with Improved DDPM's preconditioning (a buffer u); only EDM's own is known"
            )
