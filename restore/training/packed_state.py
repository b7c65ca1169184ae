"""The state of a run packed into a few small files, and unpacked into a run folder.

What is kept, and how exactly, is the first of `PLANS` that fits. The exported average in float16 is
the exported model, which so needs no space of its own. Tensors of up to `SMALL` elements, counters,
and the statistics of the log and the objective are always exact.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from restore.diffusion.denoiser import joined_state
from restore.errors import BadArgument, FileAccess, RestoreError, UnreadableInput
from restore.files import write_atomically
from restore.training.checkpoint import (
    CHECKPOINT,
    State,
    load_state,
    part_of,
    save_state,
    write_model,
)
from restore.training.pieces import KIB, mebibytes, read_pieces, write_pieces
from restore.training.recipe import Recipe
from restore.training.recipe_file import parse_recipe, write_recipe
from restore.training.run import MODEL, RECIPE

STATE = "state.safetensors"
# Files of a run folder that are copied unchanged.
BESIDE = ("log.csv", "samples.png", "predictor-log.csv")
# Tensors of up to this many elements are always exact.
SMALL = 4096
# Fraction of the limit for the files that are copied unchanged; one that does not fit is left out.
BESIDE_FRACTION = 1 / 8

# ``difference``: difference from the exported average, in 8 bits with a scale for each output
# channel. ``rounded``, for optimisers: Muon's momentum in 8 bits with such scales, AdamW's moments
# in bfloat16.
Precision = Literal["exact", "float16", "difference", "rounded"]

# Plans, best first. Weights and averages are those of both networks (a distillation's teacher
# counts as weights).
PLANS: tuple[dict[str, Precision], ...] = (
    {
        "weights": "exact",
        "exported average": "exact",
        "optimisers": "exact",
        "other averages": "exact",
    },
    {
        "weights": "exact",
        "exported average": "float16",
        "optimisers": "rounded",
        "other averages": "float16",
    },
    {
        "weights": "float16",
        "exported average": "float16",
        "optimisers": "rounded",
        "other averages": "float16",
    },
    {"weights": "float16", "exported average": "float16", "optimisers": "rounded"},
    {
        "weights": "difference",
        "exported average": "float16",
        "optimisers": "rounded",
        "other averages": "difference",
    },
    {"weights": "difference", "exported average": "float16", "optimisers": "rounded"},
    {"weights": "difference", "exported average": "float16"},
    {"weights": "float16"},
)

_FORMAT = "restore-packed-state-1"
# Largest header of a tensor in bytes, without its name.
_HEADER = 128
_SECTIONS = {
    "network": "network",
    "ema": "averages",
    "optimiser": "optimiser",
    "objective": "objective",
    "log": "log",
    "teacher": "teacher",
    "predictor": "predictor",
    "predictor ema": "predictor_averages",
    "predictor optimiser": "predictor_optimiser",
}
_PART_OF = {"network": "weights", "predictor": "weights", "teacher": "weights"}
_PART_OF |= {
    "optimiser": "optimisers",
    "predictor optimiser": "optimisers",
    "objective": "always",
    "log": "always",
}
_AVERAGE_OF = {
    "network": "ema",
    "ema": "ema",
    "predictor": "predictor ema",
    "predictor ema": "predictor ema",
}


@dataclass(frozen=True)
class Packed:
    """A packed state.

    Attributes:
        files: Files written.
        kept: Precision of each part, see `PLANS`.
        left_out: Parts that did not fit.
        step: Step of the state.
    """

    files: list[Path]
    kept: Mapping[str, Precision]
    left_out: list[str]
    step: int

    @property
    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)

    def __str__(self) -> str:
        kept = ", ".join(f"{part} {precision}" for part, precision in self.kept.items())
        left_out = f"; left out: {', '.join(self.left_out)}" if self.left_out else ""
        largest = mebibytes(max(file.stat().st_size for file in self.files))
        return (
            f"step {self.step} in {len(self.files)} files, {mebibytes(self.bytes)}, the largest "
            f"{largest}: {kept}{left_out}"
        )


def pack_state(run: Path, out: Path, limit: int, *, ended: str = "") -> Packed:
    """Write the state of a run folder as files of at most `restore.training.pieces.PIECE` bytes.

    Args:
        run: The run folder.
        out: Where the files go.
        limit: Limit of all files together, in bytes.
        ended: Why the run ended, as text.

    Raises:
        BadArgument: Not even the weights fit.
        FileAccess, UnreadableInput: The state cannot be read, or the files cannot be written.
    """
    state = load_state(run)
    beside = _beside(run, limit)
    facts = {
        "format": _FORMAT,
        "step": state.step,
        "elapsed": state.elapsed,
        "round": state.round,
        "round start": state.round_start,
        "warm-up start": state.warm_up_start,
        "recipe": write_recipe(state.recipe),
        "ended": ended,
    }
    rest = limit - sum(map(len, beside.values())) - len(json.dumps(facts)) - 2 * KIB

    tensors = _tensors(state)
    average = f"{state.recipe.ema.decays[-1]}/"
    parts = _parts(tensors, average)
    plan = _plan(parts, rest, f"{run}: {mebibytes(limit)}")
    data = save(_coded(parts, plan, average))

    left_out = [part for part in parts if part != "always" and part not in plan and parts[part]]
    files = write_pieces(data, out, STATE, {**facts, "kept": plan, "left out": left_out})

    for name, content in beside.items():
        write_atomically(content, out / name, overwrite=True)
        files.append(out / name)

    return Packed(files, plan, left_out, state.step)


def unpack_state(
    packed: Path, run: Path, change: Callable[[Recipe], Recipe] = lambda recipe: recipe
) -> State:
    """Make a run folder that ``restore train --resume`` continues.

    Averages that were left out begin at what was kept of the exported one or of the weights, and
    their counts continue. Optimisers that were left out begin anew, and so does the warm-up of the
    learning rate.

    Args:
        packed: Folder of the packed files.
        run: The run folder to make.
        change: Changes the recipe, in what does not decide what is learned (its ``run``).

    Returns:
        The state that was written.

    Raises:
        FileAccess: There is a run already, or a file is missing or cannot be written.
        UnreadableInput: The packed files are damaged.
    """
    taken = next((name for name in (RECIPE, CHECKPOINT) if (run / name).exists()), None)
    if taken:
        raise FileAccess(f"{run / taken}: a run is here already; unpack into another folder")

    data, facts = read_pieces(packed, STATE)
    if facts.get("format") != _FORMAT:
        raise UnreadableInput(f"{packed}: not a packed state of this version")

    try:
        tensors = _decoded(load(data))
    except SafetensorError as error:
        raise UnreadableInput(f"{packed}: {STATE}: {error}") from None

    recipe = change(parse_recipe(facts["recipe"], str(packed)))
    state = _state(tensors, facts, recipe)
    save_state(state, run)
    write_atomically(write_recipe(recipe).encode(), run / RECIPE, overwrite=True)
    if "exported average" in facts["kept"]:
        decay = str(recipe.ema.decays[-1])
        averages = (part_of(decay, each) for each in (state.averages, state.predictor_averages))
        write_model(recipe.description(state.round), joined_state(*averages), run / MODEL)

    for name in BESIDE:
        if (packed / name).is_file():
            write_atomically((packed / name).read_bytes(), run / name, overwrite=True)

    return state


def _beside(run: Path, limit: int) -> dict[str, bytes]:
    """Read the files that are copied unchanged, as long as they fit into their fraction."""
    found = {}
    rest = limit * BESIDE_FRACTION
    for name in BESIDE:
        path = run / name
        if path.is_file() and path.stat().st_size <= rest:
            found[name] = path.read_bytes()
            rest -= len(found[name])

    return found


def _tensors(state: State) -> dict[str, Tensor]:
    """Return all tensors of a state as ``section/name``."""
    return {
        f"{s}/{name}": t
        for s, field in _SECTIONS.items()
        for name, t in getattr(state, field).items()
    }


def _parts(tensors: Mapping[str, Tensor], average: str) -> dict[str, dict[str, Tensor]]:
    """Return the tensors of each part of a plan, the exported average first.

    The part ``always`` is kept by every plan.
    """
    names = ("exported average", "weights", "optimisers", "other averages", "always")
    parts: dict[str, dict[str, Tensor]] = {name: {} for name in names}
    for key, tensor in tensors.items():
        section, name = key.split("/", 1)
        of_average = "exported average" if name.startswith(average) else "other averages"
        parts[_PART_OF.get(section, of_average)][key] = tensor

    return parts


def _plan(
    parts: Mapping[str, Mapping[str, Tensor]], limit: int, where: str
) -> dict[str, Precision]:
    """Return the first plan that fits.

    Raises:
        BadArgument: There is none.
    """
    for plan in PLANS:
        whole: dict[str, Precision] = {**plan, "always": "exact"}
        needed = sum(_size(k, t, p) for part, p in whole.items() for k, t in parts[part].items())
        if needed <= limit:
            return {part: precision for part, precision in plan.items() if parts[part]}
    raise BadArgument(
        f"{where} are too little for the weights alone, which need {mebibytes(needed)}; raise the "
        "limit"
    )


def _size(key: str, tensor: Tensor, precision: Precision) -> int:
    """Return the most bytes of an encoded tensor."""
    width = _width(key, tensor, precision)
    header = _HEADER + len(key)
    scales = 4 * len(tensor) + header if width == 1 else 0
    return tensor.numel() * width + scales + header


def _width(key: str, tensor: Tensor, precision: Precision) -> int:
    """Return the bytes of an element."""
    if precision == "exact" or tensor.numel() <= SMALL or not tensor.is_floating_point():
        return tensor.element_size()
    differs = precision == "difference" and key.split("/", 1)[0] in _AVERAGE_OF
    momentum = precision == "rounded" and key.endswith("/momentum")
    return 1 if (differs or momentum) and tensor.ndim > 1 else 2


def _coded(
    parts: Mapping[str, Mapping[str, Tensor]], plan: Mapping[str, Precision], average: str
) -> dict[str, Tensor]:
    """Encode the tensors.

    Raises:
        RestoreError: One is not finite in half precision.
    """
    coded: dict[str, Tensor] = {}
    for part, precision in (
        {"exported average": plan.get("exported average"), **plan, "always": "exact"}
    ).items():
        if not precision:
            continue
        for key, tensor in parts[part].items():
            width = _width(key, tensor, precision)
            if width == tensor.element_size():
                coded[key] = tensor.contiguous()
            elif width == 1:
                base = (
                    coded[_average_key(key, average)].float() if precision == "difference" else None
                )
                coded |= _in_8_bits(key, tensor, base)
            else:
                coded[key] = _in_16_bits(
                    key, tensor, torch.bfloat16 if precision == "rounded" else torch.float16
                )

    return coded


def _average_key(key: str, average: str) -> str:
    """Return the key of the exported average, for a weight or another average."""
    section, name = key.split("/", 1)
    plain = name.split("/", 1)[1] if section.endswith("ema") else name
    return f"{_AVERAGE_OF[section]}/{average}{plain}"


def _in_16_bits(key: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    half = tensor.to(dtype).contiguous()
    if not bool(torch.isfinite(half).all()):
        raise RestoreError(
            f"{key}: not finite in {str(dtype).removeprefix('torch.')}, so it cannot be packed"
        )
    return half


def _in_8_bits(key: str, tensor: Tensor, base: Tensor | None) -> dict[str, Tensor]:
    """Encode a tensor, or its difference from ``base``, in 8 bits.

    The numbers are in [−127, 127], with a scale for each row.
    """
    what = tensor if base is None else tensor - base
    rows = what.flatten(1)
    scale = rows.abs().amax(dim=1) / 127
    numbers = (
        (rows / scale.clamp_min(torch.finfo(torch.float32).tiny)[:, None]).round().to(torch.int8)
    )
    kind = "numbers" if base is None else "difference"

    return {f"{key}#{kind}": numbers.view(what.shape), f"{key}#scale": scale}


def _decoded(coded: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Decode tensors to float32; the inverse of `_coded`."""
    tensors = {
        k: t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for k, t in coded.items()
    }
    plain = {key: tensor for key, tensor in tensors.items() if "#" not in key}
    averages = {
        _without_decay(key): tensor
        for key, tensor in plain.items()
        if key.split("/", 1)[0].endswith("ema")
    }

    for coded_key, numbers in tensors.items():
        key, _, kind = coded_key.partition("#")
        if kind not in ("numbers", "difference"):
            continue
        rows = numbers.float().flatten(1) * tensors[f"{key}#scale"][:, None]
        value = rows.view(numbers.shape)
        plain[key] = value if kind == "numbers" else averages[_without_decay(key)] + value

    return plain


def _without_decay(key: str) -> str:
    """Return the averages' section and the weight's name, for a weight or its average."""
    section, name = key.split("/", 1)
    return f"{_AVERAGE_OF[section]}/{name.split('/', 1)[1] if section.endswith('ema') else name}"


def _state(tensors: Mapping[str, Tensor], facts: Mapping[str, Any], recipe: Recipe) -> State:
    """Return the state; what was left out begins anew."""
    sections: dict[str, Any] = {
        field: part_of(section, tensors) for section, field in _SECTIONS.items()
    }
    decays = [str(decay) for decay in recipe.ema.decays]
    sections["averages"] = _averages(decays, sections["network"], sections["averages"])
    sections["predictor_averages"] = _averages(
        decays, sections["predictor"], sections["predictor_averages"]
    )
    state = State(facts["step"], facts["elapsed"], recipe, **sections)
    anew = "optimisers" in facts["left out"]
    warm_up_start = state.step if anew else facts["warm-up start"]

    return replace(
        state, round=facts["round"], round_start=facts["round start"], warm_up_start=warm_up_start
    )


def _averages(
    decays: list[str], weights: Mapping[str, Tensor], kept: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return all averages; a missing one is the exported one or, without that, the weights."""
    exported = {name: kept.get(f"{decays[-1]}/{name}", weight) for name, weight in weights.items()}
    return {
        f"{d}/{name}": kept.get(f"{d}/{name}", exported[name]).clone()
        for d in decays
        for name in weights
    }
