"""Classifiers of noisy pictures of ADM's code (Dhariwal, Nichol 2021, arXiv 2105.05233).

Their tensor names are those of `restore.backbone.classifier`: the half of ADM's U-Net that goes
down, its middle, and a pool.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from torch import Tensor

from pretrained.errors import CheckpointError
from pretrained.layouts import unet
from pretrained.layouts.layout import by, faults
from pretrained.layouts.settled import BACKBONE, NESTED, checked, contradictions
from pretrained.layouts.unet import Shape, Skeleton, counted

# The tensor that no model of pictures has.
_POSITIONS = "out.2.positional_embedding"

# What a description of a classifier may say beside its backbone and schedule.
_OWN = ("classes", "pool", "size", "names")

# What every published classifier has and no tensor shows, unless the description says otherwise.
_USUAL = {"qkv_order": "legacy", "head_channels": 64}


def recognises(names: Set[str]) -> bool:
    """Whether a state dict with these names is of a classifier with an attention pool.

    The published ones have no other pool.
    """
    return {"time_embed.0.weight", "input_blocks.0.0.weight", _POSITIONS} <= names


def settled(state: Mapping[str, Tensor], hints: Mapping[str, Any]) -> dict[str, Any]:
    """Read a classifier off its tensors and what is known beforehand.

    Args:
        state: The state dict.
        hints: Parts of the description that the catalogue or the user gives.

    Returns:
        Every field of `pretrained.classifier_description.ClassifierConfig`, as JSON holds it.

    Raises:
        CheckpointError: A hint is unknown, is missing, or contradicts what the tensors show; or the
            tensors are not those of such a network.
    """
    own = {name: value for name, value in hints.items() if name in _OWN}
    rest = checked({name: value for name, value in hints.items() if name not in _OWN})
    if unknown := [name for name in rest if name not in NESTED]:
        raise CheckpointError(
            f"a classifier of noisy pictures, whose description has no {', '.join(unknown)}"
        )
    if wanted := [name for name in ("size", "schedule") if name not in hints]:
        raise CheckpointError(
            f"a classifier of noisy pictures, whose weights do not show {' and '.join(wanted)}; "
            "say it in a .toml or .json file of the same name beside it, as in size = 256 and "
            'schedule = { name = "linear" }'
        )

    size = own["size"]
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise CheckpointError(f"its description says size = {size!r}, where 256 is usual")
    try:
        found = _shown(state, size)
    except KeyError as error:
        raise CheckpointError(faults(missing=[error.args[0]])) from None

    backbone = rest.get("backbone", {})
    different = contradictions(found["backbone"], backbone)
    different += contradictions({"classes": found["classes"], "pool": found["pool"]}, own)
    if different:
        raise CheckpointError(f"not the network that was expected: {'; '.join(different)}")

    heads = {} if "heads" in backbone else _USUAL
    complete = {**BACKBONE, **heads, **backbone, **found["backbone"]}
    config = {**found, "backbone": complete, "schedule": rest["schedule"], "size": size}
    check(state, config)

    return {**config, "names": list(own.get("names", ()))}


def check(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Compare the tensors with those that a complete description asks for.

    Raises:
        CheckpointError: Tensors are missing, unexpected or of the wrong shape.
    """
    expected = shapes(config)
    shown = {name: tuple(tensor.shape) for name, tensor in state.items()}
    wrong = [
        f"{name} ({by(shown[name])} instead of {by(shape)})"
        for name, shape in expected.items()
        if name in shown and shown[name] != shape
    ]
    text = faults(
        missing=sorted(expected.keys() - shown.keys()),
        unexpected=sorted(shown.keys() - expected.keys()),
        wrong=wrong,
    )
    if text:
        raise CheckpointError(text)


def shapes(config: Mapping[str, Any]) -> dict[str, Shape]:
    """Names and shapes of all tensors of a classifier with an attention pool.

    Args:
        config: Every field of `pretrained.classifier_description.ClassifierConfig` but the names.
    """
    backbone = config["backbone"]
    levels = len(backbone["channel_multipliers"])
    factors = backbone["attention_factors"]
    skeleton = Skeleton(
        levels,
        backbone["blocks"],
        frozenset(level for level in range(levels) if 2**level in factors),
        middle_attention=True,
        resblock_updown=backbone["resblock_updown"],
    )
    found = {
        name: shape
        for name, shape in unet.shapes(backbone, skeleton).items()
        if not name.startswith(("output_blocks.", "out."))
    }

    width = int(backbone["channels"] * backbone["channel_multipliers"][-1])
    positions = (config["size"] // 2 ** (levels - 1)) ** 2
    found[_POSITIONS] = (width, positions + 1)
    found |= unet.affine("out.0", (width,))
    found |= unet.affine("out.2.qkv_proj", (3 * width, width, 1))
    return found | unet.affine("out.2.c_proj", (config["classes"], width, 1))


def _shown(state: Mapping[str, Tensor], size: int) -> dict[str, Any]:
    """Return what tensors and size show: backbone (in part), classes and pool.

    Raises:
        KeyError: A tensor is missing.
        CheckpointError: The size contradicts the tensors.
    """
    channels = unet.shape_of(state, "time_embed.0.weight")[1]
    stages = counted(state, "input_blocks.")
    levels = _levels(state, stages, size)
    blocks = stages // levels - 1
    first = [f"input_blocks.{level * (blocks + 1) + 1}" for level in range(levels)]
    widths = [unet.shape_of(state, f"{name}.0.out_layers.3.weight")[0] for name in first]
    projected = unet.shape_of(state, f"{first[0]}.0.emb_layers.1.weight")[0]
    attention = [level for level in range(levels) if f"{first[level]}.1.qkv.weight" in state]
    backbone = {
        "channels": channels,
        "channel_multipliers": [unet.whole(width / channels) for width in widths],
        "blocks": blocks,
        "attention_factors": [2**level for level in attention],
        "middle_attention": True,
        "scale_shift_norm": projected == 2 * widths[0],
    }
    if levels > 1:
        strided = f"input_blocks.{blocks + 1}.0.op.weight"
        backbone["resblock_updown"] = strided not in state

    classes = unet.shape_of(state, "out.2.c_proj.weight")[0]
    return {"backbone": backbone, "classes": classes, "pool": "attention"}


def _levels(state: Mapping[str, Tensor], stages: int, size: int) -> int:
    """Return the number of resolutions, from the number of positions at the lowest.

    Raises:
        CheckpointError: There is none that suits the size and the number of stages.
    """
    positions = unet.shape_of(state, _POSITIONS)[1] - 1
    for levels in range(1, stages + 1):
        if positions * 4 ** (levels - 1) == size**2 and stages % levels == 0 and stages > levels:
            return levels

    raise CheckpointError(
        f"not the network that was expected: {stages} stages that end with {positions} positions "
        f"are of no classifier of {size}x{size} pixels"
    )
