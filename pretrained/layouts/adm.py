"""ADM (Dhariwal, Nichol 2021, arXiv 2105.05233) and Improved DDPM (arXiv 2102.09672).

Their tensor names are those of `restore.backbone`.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from pretrained.layouts import unet
from pretrained.layouts.layout import Layout
from pretrained.layouts.unet import Part, Skeleton, counted


class Adm(Layout):
    """Layout of ADM's and Improved DDPM's own code."""

    name = "ADM / Improved DDPM"
    block = unet.BLOCK
    attention = unet.ATTENTION
    single = unet.SINGLE
    conditional = True

    @classmethod
    def recognises(cls, names: Set[str]) -> bool:
        return {"time_embed.0.weight", "input_blocks.0.0.weight", "out.2.weight"} <= names

    def _skeleton(self, names: Set[str]) -> Skeleton:
        stages = counted(names, "output_blocks.")
        resizers = sorted(stage for stage in range(stages) if _resizer(names, stage))
        per_level = resizers[0] + 1 if resizers else max(stages, 1)
        levels = max(-(-stages // per_level), 1)
        attention = (
            level
            for level in range(levels)
            if f"input_blocks.{level * per_level + 1}.1.qkv.weight" in names
        )

        return Skeleton(
            levels,
            per_level - 1,
            frozenset(attention),
            "middle_block.1.qkv.weight" in names,
            not resizers or not _resizer(names, resizers[0]).endswith("conv.weight"),
        )

    def stem(self, part: Part) -> str:
        return part.name

    def _theirs(self, part: Part) -> tuple[str, ...]:
        return unet.stems(part, self.skeleton)

    def fixed(self) -> dict[str, Any]:
        return {}

    def defaults(self, inferred: Mapping[str, Any]) -> dict[str, Any]:
        if not inferred["condition_channels"]:
            return {}
        return {"condition_required": True, "condition_resampling": "bilinear", "scale": 4}

    def undetermined(self, inferred: Mapping[str, Any], hints: Mapping[str, Any]) -> str:
        backbone = hints.get("backbone", {})
        heads = backbone.get("head_channels") or backbone.get("heads")
        wanted = {
            'schedule = { name = "linear" } (ADM; its 64x64 model is "cosine")': "schedule"
            in hints,
            "[backbone] head_channels = 64 or heads = 4": heads or not _attends(inferred),
            '[backbone] qkv_order = "legacy" (its 64x64 model: "new")': "qkv_order" in backbone
            or not _attends(inferred)
            or (backbone.get("heads") == 1 and not backbone.get("head_channels")),
        }

        return "; ".join(what for what, said in wanted.items() if not said)


def _attends(inferred: Mapping[str, Any]) -> bool:
    return bool(inferred["attention_factors"]) or inferred["middle_attention"]


def _resizer(names: Set[str], stage: int) -> str:
    """Tensor name that shows a change of resolution in a decoder stage, or an empty string."""
    candidates = (
        f"output_blocks.{stage}.{layer}.{leaf}.weight"
        for layer in (1, 2)
        for leaf in ("in_layers.0", "conv")
    )
    return next((name for name in candidates if name in names), "")
