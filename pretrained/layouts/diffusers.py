"""diffusers' ``UNet2DModel``: DDPM's or ADM's U-Net, by the options in its config.json."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from pretrained.errors import CheckpointError
from pretrained.layouts.layout import Layout, State
from pretrained.layouts.unet import Part, Skeleton, counted

# Stems within attention blocks: former names in diffusers and today's.
OLD_NAMES = {
    ".query.": ".to_q.",
    ".key.": ".to_k.",
    ".value.": ".to_v.",
    ".proj_attn.": ".to_out.0.",
}

# Numeric options with diffusers' defaults.
NUMBERS = {"layers_per_block": 2, "norm_eps": 1e-5, "norm_num_groups": 32}

# Parameterisations by diffusers' prediction_type.
PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v", "sample": "x0"}

# The only supported values of these options; the first is diffusers' default.
ONLY = {
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "act_fn": ("silu", "swish"),
    "mid_block_scale_factor": (1,),
    "class_embed_type": (None,),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "freq_shift": (0, 1),
    "downsample_padding": (1, 0),
    "time_embedding_dim": (None,),
}


class UNet2D(Layout):
    """Layout of diffusers.

    Args:
        state: The state dict.
        config: Content of config.json.
        scheduler: Content of scheduler_config.json, or None.

    Raises:
        CheckpointError: There is no config.json, or no residual block.
    """

    name = "diffusers UNet2DModel"
    block = ("norm1", "conv1", "time_emb_proj", "norm2", "conv2", "conv_shortcut")
    attention = ("group_norm", ("to_q", "to_k", "to_v"), "to_out.0")
    single = (
        "time_embedding.linear_1",
        "time_embedding.linear_2",
        "class_embedding",
        "conv_in",
        "conv_norm_out",
        "conv_out",
    )

    def __init__(
        self, state: State, config: Mapping[str, Any] | None, scheduler: Mapping[str, Any] | None
    ) -> None:
        if config is None:
            raise CheckpointError(
                "a diffusers network says its options in config.json, which is missing beside it"
            )

        self.config = config
        self.scheduler = scheduler
        self.sine_first = not config.get("flip_sin_to_cos", True)
        super().__init__({_today(name): tensor for name, tensor in state.items()})

    @classmethod
    def recognises(cls, names: Set[str]) -> bool:
        return {"time_embedding.linear_1.weight", "conv_in.weight", "conv_norm_out.weight"} <= names

    def _skeleton(self, names: Set[str]) -> Skeleton:
        levels = counted(names, "down_blocks.")
        return Skeleton(
            levels,
            counted(names, "down_blocks.0.resnets."),
            frozenset(
                level
                for level in range(levels)
                if counted(names, f"down_blocks.{level}.attentions.")
            ),
            middle_attention=bool(counted(names, "mid_block.attentions.")),
            resblock_updown="down_blocks.0.downsamplers.0.conv1.weight" in names,
        )

    def stem(self, part: Part) -> str:
        """See `Layout.stem`; decoder levels are counted from the lowest resolution."""
        kind = {"block": "resnets", "attention": "attentions", "resize": f"{part.side}samplers"}[
            part.kind
        ]
        if part.side == "middle":
            return f"mid_block.{kind}.{part.index}"

        level = part.level if part.side == "down" else self.skeleton.levels - 1 - part.level
        return f"{part.side}_blocks.{level}.{kind}.{part.index}"

    def fixed(self) -> dict[str, Any]:
        """See `Layout.fixed`.

        Raises:
            CheckpointError: An option has an unsupported value.
        """
        config = {name: self.config.get(name, values[0]) for name, values in ONLY.items()}
        if other := [
            f"{name} = {config[name]!r}"
            for name, values in ONLY.items()
            if config[name] not in values
        ]:
            raise CheckpointError(
                f"config.json asks for what is not known here: {', '.join(other)}"
            )

        numbers = {name: self.config.get(name, default) for name, default in NUMBERS.items()}
        head = self.config.get("attention_head_dim", 8)
        widths = self.config.get("block_out_channels", [])
        sizes = (*numbers.values(), *widths, 1 if head is None else head)
        if not all(isinstance(size, int | float) and size > 0 for size in sizes):
            raise CheckpointError("config.json: its sizes must be positive numbers")

        backbone = {
            "channel_multipliers": [_ratio(width, widths[0]) for width in widths],
            "blocks": numbers["layers_per_block"],
            "qkv_order": "new",
            "norm_eps": float(numbers["norm_eps"]),
            "norm_groups": numbers["norm_num_groups"],
            "embedding_endpoint": config["freq_shift"] == 1,
            "downsample_padding": "end"
            if self.config.get("downsample_padding", 1) == 0
            else "both",
            **({"heads": 1, "head_channels": None} if head is None else {"head_channels": head}),
        }
        size = self.config.get("sample_size")
        size = size[0] if isinstance(size, list) and len(set(size)) == 1 else size

        return {
            "time": "step",
            "backbone": backbone,
            **({"size": size} if isinstance(size, int) else {}),
            **({} if self.scheduler is None else _chain(self.scheduler)),
        }

    def undetermined(self, inferred: Mapping[str, Any], hints: Mapping[str, Any]) -> str:
        if self.scheduler is not None or "schedule" in hints:
            return ""
        return 'schedule = { name = "linear" } (scheduler_config.json is missing)'

    def defaults(self, inferred: Mapping[str, Any]) -> dict[str, Any]:
        return {"parameterization": "epsilon"}


def _chain(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """Noise schedule and parameterisation of a scheduler_config.json.

    Raises:
        CheckpointError: An unsupported schedule or prediction type.
    """
    steps = scheduler.get("num_train_timesteps", 1000)
    kind = scheduler.get("beta_schedule", "linear")
    prediction = scheduler.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        raise CheckpointError(
            f"scheduler_config.json: the prediction_type {prediction!r} is not known here"
        )

    if kind == "linear" and scheduler.get("trained_betas") is None:
        start = scheduler.get("beta_start", 1e-4)
        end = scheduler.get("beta_end", 0.02)
        schedule = {"name": "linear", "timesteps": steps, "start": start, "end": end}
    elif kind == "squaredcos_cap_v2":
        schedule = {"name": "cosine", "timesteps": steps}
    else:
        raise CheckpointError(
            f"scheduler_config.json: the beta_schedule {kind!r} is not known here"
        )

    return {"schedule": schedule, "parameterization": PREDICTIONS[prediction]}


def _today(name: str) -> str:
    """Today's name of a tensor in diffusers."""
    for old, new in OLD_NAMES.items():
        name = name.replace(old, new)
    return name


def _ratio(width: int, first: int) -> float:
    """Channel multiplier, as an int if it is whole."""
    return width // first if width % first == 0 else width / first
