"""DDPM's U-Net (Ho, Jain, Abbeel 2020, arXiv 2006.11239) in pesser's PyTorch version.

DDIM and DDRM use it, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from pretrained.layouts.layout import Layout
from pretrained.layouts.unet import Part, Skeleton, counted

# Fixed by the code and not shown by the shapes.
FIXED = {
    "heads": 1,
    "norm_eps": 1e-6,
    "norm_groups": 32,
    "embedding_endpoint": True,
    "downsample_padding": "end",
}


class Ddpm(Layout):
    """Layout of pesser's code."""

    name = "DDPM (pesser)"
    block = ("norm1", "conv1", "temb_proj", "norm2", "conv2", "nin_shortcut")
    attention = ("norm", ("q", "k", "v"), "proj_out")
    single = ("temb.dense.0", "temb.dense.1", "class_emb", "conv_in", "norm_out", "conv_out")
    sine_first = True

    @classmethod
    def recognises(cls, names: Set[str]) -> bool:
        return {"temb.dense.0.weight", "conv_in.weight"} <= names

    def _skeleton(self, names: Set[str]) -> Skeleton:
        levels = counted(names, "down.")
        return Skeleton(
            levels,
            counted(names, "down.0.block."),
            frozenset(level for level in range(levels) if counted(names, f"down.{level}.attn.")),
            middle_attention="mid.attn_1.q.weight" in names,
            resblock_updown=False,
        )

    def stem(self, part: Part) -> str:
        if part.side == "middle":
            return "mid.attn_1" if part.kind == "attention" else f"mid.block_{part.index + 1}"
        if part.kind == "resize":
            return f"{part.side}.{part.level}.{part.side}sample"
        kind = "attn" if part.kind == "attention" else "block"
        return f"{part.side}.{part.level}.{kind}.{part.index}"

    def fixed(self) -> dict[str, Any]:
        return {"parameterization": "epsilon", "time": "step", "backbone": FIXED}

    def defaults(self, inferred: Mapping[str, Any]) -> dict[str, Any]:
        """See `Layout.defaults`; DDPM attends at 16×16 pixels, which gives the picture size."""
        factors = inferred["attention_factors"]
        return {
            "schedule": {"name": "linear"},
            "size": 16 * factors[0] if len(factors) == 1 else None,
        }
