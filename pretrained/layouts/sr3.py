"""SR3's U-Net (Saharia et al. 2021, arXiv 2104.07636) in Janspiry's PyTorch version.

Its state dict has the buffers of the noise schedule, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import torch
from torch import Tensor

from pretrained.errors import CheckpointError
from pretrained.layouts.layout import Layout
from pretrained.layouts.unet import Part, Skeleton, counted

# What the shapes do not show of the 16→128 and the 64→512 network, by channel multipliers and
# blocks.
PUBLISHED: dict[tuple[tuple[int, ...], int], dict[str, Any]] = {
    ((1, 2, 4, 8, 8), 2): {"size": 128, "backbone": {"norm_groups": 32}},
    ((1, 2, 4, 8, 16), 1): {"size": 512, "backbone": {"norm_groups": 16}},
}


class Sr3(Layout):
    """Layout of Janspiry's code."""

    name = "SR3 (Janspiry)"
    block = (
        "res_block.block1.block.0",
        "res_block.block1.block.3",
        "res_block.noise_func.noise_func.0",
        "res_block.block2.block.0",
        "res_block.block2.block.3",
        "res_block.res_conv",
    )
    attention = ("attn.norm", "attn.qkv", "attn.out")
    single = tuple(
        f"denoise_fn.{name}"
        for name in (
            "noise_level_mlp.1",
            "noise_level_mlp.3",
            "label_emb",
            "downs.0",
            "final_conv.block.0",
            "final_conv.block.3",
        )
    )
    unused = (
        "betas",
        "alphas_cumprod",
        "alphas_cumprod_prev",
        "log_one_minus_alphas_cumprod",
        "sqrt_recipm1_alphas_cumprod",
        "posterior_variance",
        "posterior_log_variance_clipped",
        "posterior_mean_coef1",
        "posterior_mean_coef2",
    )
    conditional = True
    sine_first = True
    condition_first = True

    @classmethod
    def recognises(cls, names: Set[str]) -> bool:
        return {"denoise_fn.noise_level_mlp.1.weight", "denoise_fn.downs.0.weight"} <= names

    def _skeleton(self, names: Set[str]) -> Skeleton:
        stages = counted(names, "denoise_fn.downs.")
        resizers = [
            stage for stage in range(1, stages) if f"denoise_fn.downs.{stage}.conv.weight" in names
        ]
        per_level = resizers[0] if resizers else max(stages, 1)
        first = [level * per_level + 1 for level in range(len(resizers) + 1)]
        attention = (
            n
            for n, stage in enumerate(first)
            if f"denoise_fn.downs.{stage}.attn.qkv.weight" in names
        )

        return Skeleton(
            len(first),
            per_level - 1,
            frozenset(attention),
            middle_attention="denoise_fn.mid.0.attn.qkv.weight" in names,
            resblock_updown=False,
        )

    def stem(self, part: Part) -> str:
        """See `Layout.stem`.

        Encoder stages are numbered as in `restore.backbone`; in the decoder, a change of resolution
        has a number of its own.
        """
        if part.side == "middle":
            return f"denoise_fn.mid.{part.index}"
        if part.side == "down":
            return f"denoise_fn.downs.{part.name.split('.')[1]}"

        before = (self.skeleton.levels - 1 - part.level) * (self.skeleton.blocks + 2)
        index = self.skeleton.blocks + 1 if part.kind == "resize" else part.index
        return f"denoise_fn.ups.{before + index}"

    def fixed(self) -> dict[str, Any]:
        fixed = {
            "parameterization": "epsilon",
            "time": "sqrt_alphas_cumprod",
            "backbone": {"heads": 1, "norm_eps": 1e-5, "embedding_activation": False},
        }
        if "betas" not in self.state:
            return fixed
        return {**fixed, "schedule": _schedule(self.state["betas"])}

    def defaults(self, inferred: Mapping[str, Any]) -> dict[str, Any]:
        shown = {"condition_required": True, "condition_resampling": "pil-bicubic", "scale": 8}
        return {
            "schedule": {"name": "sr3"},
            **(shown if inferred["condition_channels"] else {}),
            **PUBLISHED.get((tuple(inferred["channel_multipliers"]), inferred["blocks"]), {}),
        }

    def undetermined(self, inferred: Mapping[str, Any], hints: Mapping[str, Any]) -> str:
        if (tuple(inferred["channel_multipliers"]), inferred["blocks"]) in PUBLISHED:
            return ""
        return (
            ""
            if "norm_groups" in hints.get("backbone", {})
            else "[backbone] norm_groups = 32 (or of what it has)"
        )


def _schedule(betas: Tensor) -> dict[str, Any]:
    """Noise schedule of the β (float32) in a checkpoint.

    Raises:
        CheckpointError: β does not rise linearly.
    """
    if betas.ndim != 1 or len(betas) < 2:
        raise CheckpointError(
            f"its chain (betas) must be a list of numbers, not {tuple(betas.shape)}"
        )

    start, end = (float(f"{float(beta):.6g}") for beta in (betas[0], betas[-1]))
    linear = torch.linspace(start, end, len(betas), dtype=torch.float64)
    if not torch.allclose(betas.double(), linear, rtol=1e-4, atol=1e-9):
        raise CheckpointError(
            "its chain (betas) does not rise linearly; only linear ones are known"
        )

    return {"name": "sr3", "timesteps": len(betas), "start": start, "end": end}
