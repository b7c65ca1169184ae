"""ADM's U-Net as names and shapes of tensors, under the names of `restore.backbone`.

Each layer is a `Part`; every third-party layout has its own name for each part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import Tensor

# Stems within a residual block.
BLOCK = (
    "in_layers.0",
    "in_layers.2",
    "emb_layers.1",
    "out_layers.0",
    "out_layers.3",
    "skip_connection",
)

# Stems within an attention block.
ATTENTION = ("norm", "qkv", "proj_out")

# Stems of the layers that occur once: the two layers of the time embedding, the class embedding,
# the first convolution, the last norm and the last convolution.
SINGLE = ("time_embed.0", "time_embed.2", "label_emb", "input_blocks.0.0", "out.0", "out.2")

Shape = tuple[int, ...]


class Skeleton(NamedTuple):
    """What the tensor names of a state dict show of a network.

    Attributes:
        levels: Number of resolutions.
        blocks: Residual blocks per level of the encoder.
        attention: Levels that have attention.
        middle_attention: The middle has attention.
        resblock_updown: Residual blocks change the resolution.
        plus: It is DDPM++'s variant: a first convolution of the base width, a projection beside
            every change of resolution, attention only after the last block of a decoder level, and
            classes added to the sinusoids of the time.
    """

    levels: int
    blocks: int
    attention: frozenset[int]
    middle_attention: bool
    resblock_updown: bool
    plus: bool = False


@dataclass(frozen=True)
class Part:
    """A layer of the U-Net that occurs more than once.

    Attributes:
        name: Its name in `restore.backbone`.
        kind: Residual block, attention block or change of resolution.
        side: Encoder, middle or decoder.
        level: Level, 0 at full resolution.
        index: Position among the layers of its kind in the level.
    """

    name: str
    kind: Literal["block", "attention", "resize"]
    side: Literal["down", "middle", "up"]
    level: int
    index: int


def parts(skeleton: Skeleton) -> Iterator[Part]:
    """Yield every layer but those of `SINGLE`, in the order of the forward pass."""
    yield from _way_down(skeleton)
    bottom = skeleton.levels - 1
    last = 2 if skeleton.middle_attention else 1
    yield Part("middle_block.0", "block", "middle", bottom, 0)
    if skeleton.middle_attention:
        yield Part("middle_block.1", "attention", "middle", bottom, 0)

    yield Part(f"middle_block.{last}", "block", "middle", bottom, 1)
    yield from _way_up(skeleton)


def _way_down(skeleton: Skeleton) -> Iterator[Part]:
    stage = 0
    for level in range(skeleton.levels):
        for index in range(skeleton.blocks):
            stage += 1
            yield Part(f"input_blocks.{stage}.0", "block", "down", level, index)
            if level in skeleton.attention:
                yield Part(f"input_blocks.{stage}.1", "attention", "down", level, index)
        if level + 1 < skeleton.levels:
            stage += 1
            yield Part(f"input_blocks.{stage}.0", "resize", "down", level, 0)


def _way_up(skeleton: Skeleton) -> Iterator[Part]:
    stage = -1
    for level in reversed(range(skeleton.levels)):
        for index in range(skeleton.blocks + 1):
            stage += 1
            yield Part(f"output_blocks.{stage}.0", "block", "up", level, index)
            attends = level in skeleton.attention and (
                index == skeleton.blocks or not skeleton.plus
            )
            if attends:
                yield Part(f"output_blocks.{stage}.1", "attention", "up", level, index)
            if level and index == skeleton.blocks:
                yield Part(f"output_blocks.{stage}.{2 if attends else 1}", "resize", "up", level, 0)


def stems(part: Part, skeleton: Skeleton) -> tuple[str, ...]:
    """Stems within a part, relative to its name."""
    if part.kind == "attention":
        return ATTENTION
    if part.kind == "block" or skeleton.resblock_updown:
        return BLOCK
    return ("op",) if part.side == "down" else ("conv",)


def inferred_backbone(state: Mapping[str, Tensor], skeleton: Skeleton) -> dict[str, Any]:
    """Fields of `pretrained.description.BackboneConfig` that follow from names and shapes.

    Raises:
        KeyError: A tensor is missing.
    """
    channels = shape_of(state, "time_embed.0.weight")[1]
    incoming = shape_of(state, "input_blocks.0.0.weight")[1]
    outgoing = shape_of(state, "out.2.weight")[0]
    first = [
        f"input_blocks.{level * (skeleton.blocks + 1) + 1}.0" for level in range(skeleton.levels)
    ]
    widths = [shape_of(state, f"{name}.out_layers.3.weight")[0] for name in first]
    embedding = shape_of(state, "time_embed.2.weight")[0]
    qkv = any(name.endswith(".qkv.weight") for name in state)
    inferred = {
        "image_channels": 3,
        "condition_channels": incoming - 3,
        "learned_variance": outgoing == 6,
        "channels": channels,
        "channel_multipliers": [whole(width / channels) for width in widths],
        "blocks": skeleton.blocks,
        "attention_factors": sorted(2**level for level in skeleton.attention),
        "middle_attention": skeleton.middle_attention,
        "scale_shift_norm": shape_of(state, f"{first[0]}.emb_layers.1.weight")[0] == 2 * widths[0],
        "classes": shape_of(state, "label_emb.weight")[0] if "label_emb.weight" in state else 0,
        "embedding_width": None if embedding == 4 * channels else embedding,
    }
    if skeleton.levels > 1:
        inferred["resblock_updown"] = skeleton.resblock_updown
    if qkv:
        inferred["qkv_bias"] = any(name.endswith(".qkv.bias") for name in state)

    return inferred


def shapes(backbone: Mapping[str, Any], skeleton: Skeleton) -> dict[str, Shape]:
    """Names and shapes of all tensors of a network.

    Args:
        backbone: Every field of `pretrained.description.BackboneConfig`.
        skeleton: Skeleton of the same network.
    """
    channels = backbone["channels"]
    widths = [int(channels * m) for m in backbone["channel_multipliers"]]
    embedding = backbone["embedding_width"] or 4 * channels
    image = backbone["image_channels"]
    first = channels if skeleton.plus else widths[0]
    found = {
        **affine("time_embed.0", (4 * channels, channels)),
        **affine("time_embed.2", (embedding, 4 * channels)),
        **affine("input_blocks.0.0", (first, image + backbone["condition_channels"], 3, 3)),
        **affine("out.0", (widths[0],)),
        **affine("out.2", (image * (1 + backbone["learned_variance"]), widths[0], 3, 3)),
    }
    if backbone["classes"]:
        found["label_emb.weight"] = (backbone["classes"], channels if skeleton.plus else embedding)

    projected = 2 if backbone["scale_shift_norm"] else 1

    for part, before, width in _with_widths(skeleton, widths, first):
        if part.kind == "attention":
            found |= affine(f"{part.name}.norm", (width,)) | affine(
                f"{part.name}.proj_out", (width, width, 1)
            )
            found |= affine(f"{part.name}.qkv", (3 * width, width, 1), bias=backbone["qkv_bias"])
        elif part.kind == "block" or skeleton.resblock_updown:
            found |= affine(f"{part.name}.in_layers.0", (before,))
            found |= affine(f"{part.name}.in_layers.2", (width, before, 3, 3))
            found |= affine(f"{part.name}.emb_layers.1", (projected * width, embedding))
            found |= affine(f"{part.name}.out_layers.0", (width,))
            found |= affine(f"{part.name}.out_layers.3", (width, width, 3, 3))
            if before != width or (skeleton.plus and part.kind == "resize"):
                found |= affine(f"{part.name}.skip_connection", (width, before, 1, 1))
        else:
            found |= affine(f"{part.name}.{stems(part, skeleton)[0]}", (width, width, 3, 3))

    return found


def _with_widths(
    skeleton: Skeleton, widths: list[int], first: int
) -> Iterator[tuple[Part, int, int]]:
    """Yield each part with its numbers of input and output channels."""
    channels = first
    waiting = [first]
    for part in parts(skeleton):
        width = channels if part.kind != "block" or part.side == "middle" else widths[part.level]
        joined = waiting.pop() if part.kind == "block" and part.side == "up" else 0
        yield part, channels + joined, width
        channels = width
        if part.side == "down" and part.kind != "attention":
            waiting.append(channels)


def affine(name: str, shape: Shape, bias: bool = True) -> dict[str, Shape]:
    return {f"{name}.weight": shape} | ({f"{name}.bias": shape[:1]} if bias else {})


def shape_of(state: Mapping[str, Tensor], name: str) -> Shape:
    """Shape of a tensor, padded to two dimensions of at least 1.

    So wrong tensors raise no IndexError, and the comparison that follows names them.
    """
    return tuple(max(size, 1) for size in (*state[name].shape, 1, 1)[: max(state[name].ndim, 2)])


def whole(number: float) -> float:
    """The number as an int if it is whole."""
    return int(number) if number == int(number) else number


def counted(names: Iterable[str], prefix: str) -> int:
    """Count the distinct numbers that follow ``prefix`` in names.

    They are taken as 0, 1, …; if one is left out, a layer is reported missing later.
    """
    following = (name[len(prefix) :].split(".", 1)[0] for name in names if name.startswith(prefix))
    return len({number for number in following if number.isdecimal()})
