"""Saving and loading the state of a run, and exporting its model.

A checkpoint is ``checkpoint.safetensors``, with the network, the averages and, as metadata,
everything that is no tensor, and an optimiser file beside it that it names. The optimiser file is
written first and under a new name, so that replacing the checkpoint is the one moment at which the
new state counts: a full disk or a killed process leaves the last good pair.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

import pretrained
from pretrained.classifier_description import ClassifierConfig
from restore.diffusion.denoiser import ModelConfig, build_denoiser, joined_state
from restore.errors import BadArgument, FileAccess, RestoreError, UnreadableInput
from restore.files import write_atomically
from restore.training.recipe import Recipe, differences
from restore.training.recipe_file import parse_recipe, write_recipe

CHECKPOINT = "checkpoint.safetensors"
_FORMAT = "restore-training-1"


class BadWeights(RestoreError):
    """Weights cannot be saved as a model."""


@dataclass
class State:
    """Everything that a run needs to continue.

    Attributes:
        step: Number of steps taken.
        elapsed: Training time in seconds.
        recipe: Recipe of the run, with its model.
        network: Weights by name.
        averages: See `Averages.state`.
        optimiser: See `Optimisers.state`.
        objective: See `Objective.state`.
        log: Losses since the last row of the log.
        round: Round of a distillation, from 0.
        round_start: Step with which that round began.
        teacher: Weights of a distillation's teacher.
        predictor: Weights of the predictor, in a model that has one.
        predictor_averages: Averages of the predictor.
        predictor_optimiser: Optimiser of the predictor.
        warm_up_start: Step from which the warm-up of the learning rate counts, if the optimisers
            began anew.
    """

    step: int
    elapsed: float
    recipe: Recipe
    network: Mapping[str, Tensor]
    averages: Mapping[str, Tensor]
    optimiser: Mapping[str, Tensor]
    objective: Mapping[str, Tensor]
    log: Mapping[str, Tensor]
    round: int = 0
    round_start: int = 0
    teacher: Mapping[str, Tensor] = field(default_factory=dict)
    predictor: Mapping[str, Tensor] = field(default_factory=dict)
    predictor_averages: Mapping[str, Tensor] = field(default_factory=dict)
    predictor_optimiser: Mapping[str, Tensor] = field(default_factory=dict)
    warm_up_start: int = 0


def save_state(state: State, folder: Path) -> None:
    """Replace the checkpoint in a folder.

    Raises:
        FileAccess: It cannot be written; the one before stays whole.
    """
    beside = f"optimiser-{state.step:08d}.safetensors"
    current = (
        _metadata(folder / CHECKPOINT)["optimiser"] if (folder / CHECKPOINT).is_file() else None
    )
    if beside == current:
        beside = f"optimiser-{state.step:08d}-again.safetensors"

    metadata = {
        "format": _FORMAT,
        "step": str(state.step),
        "elapsed": repr(state.elapsed),
        "recipe": write_recipe(state.recipe),
        "optimiser": beside,
        "round": str(state.round),
        "round start": str(state.round_start),
        "warm-up start": str(state.warm_up_start),
    }

    try:
        others = {"optimiser": state.optimiser, "objective": state.objective, "log": state.log}
        _write({**others, "predictor optimiser": state.predictor_optimiser}, folder / beside)
        parts = {"network": state.network, "ema": state.averages, "teacher": state.teacher}
        parts |= {"predictor": state.predictor, "predictor ema": state.predictor_averages}
        _write(parts, folder / CHECKPOINT, metadata)
    except BaseException:
        (folder / beside).unlink(missing_ok=True)
        raise

    for old in folder.glob("optimiser-*.safetensors"):
        if old.name != beside:
            old.unlink(missing_ok=True)


def load_state(folder: Path) -> State:
    """Read the checkpoint of a folder.

    Raises:
        FileAccess: There is none, or its optimiser file is missing.
        UnreadableInput: A file is damaged or no checkpoint.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        raise FileAccess(
            f"{folder}: no {CHECKPOINT} to resume from; leave `resume` out to start a run"
        )

    metadata = _metadata(path)
    beside = folder / metadata["optimiser"]
    if not beside.is_file():
        raise FileAccess(
            f"{beside}: missing; {path} cannot be resumed without it (`init` can start from its "
            "model)"
        )

    tensors = _read(path)
    others = _read(beside)

    return State(
        int(metadata["step"]),
        float(metadata["elapsed"]),
        parse_recipe(metadata["recipe"], str(path)),
        part_of("network", tensors),
        part_of("ema", tensors),
        part_of("optimiser", others),
        part_of("objective", others),
        part_of("log", others),
        int(metadata.get("round", 0)),
        int(metadata.get("round start", 0)),
        part_of("teacher", tensors),
        part_of("predictor", tensors),
        part_of("predictor ema", tensors),
        part_of("predictor optimiser", others),
        int(metadata.get("warm-up start", 0)),
    )


def export_average(folder: Path, decay: float) -> Path:
    """Write an average of the weights in a run folder's checkpoint as a model.

    Args:
        folder: The run folder.
        decay: Decay of the average.

    Returns:
        The model, ``model-average-DECAY.safetensors`` in the folder; its description is beside it.

    Raises:
        BadArgument: The run has no such average.
        FileAccess: It has no checkpoint; see also `load_state` and `write_model`.
        UnreadableInput: See `load_state`.
    """
    if not (folder / CHECKPOINT).is_file():
        raise FileAccess(f"{folder}: no {CHECKPOINT}, which has the averages of a run")

    state = load_state(folder)
    decays = state.recipe.ema.decays
    if decay not in decays:
        raise BadArgument(
            f"`average`={decay:g}: {folder} has no average of this decay; there are "
            f"{', '.join(map(str, decays))}"
        )

    name = str(decays[decays.index(decay)])
    averages = (part_of(name, each) for each in (state.averages, state.predictor_averages))
    target = folder / f"model-average-{name}.safetensors"

    return write_model(state.recipe.description(state.round), joined_state(*averages), target)


def write_model(
    config: ModelConfig | ClassifierConfig, weights: Mapping[str, Tensor], target: Path
) -> Path:
    """Write weights in float16 as safetensors, with a description beside them.

    The description is JSON, and has the SHA-256 of the weights.

    Raises:
        BadWeights: A weight is not finite in float16.
        FileAccess: A file cannot be written.
    """
    half = {
        name: weight.detach().to("cpu", torch.float16).contiguous()
        for name, weight in weights.items()
    }
    broken = [name for name, weight in half.items() if not bool(torch.isfinite(weight).all())]
    if broken:
        raise BadWeights(
            f"{target}: not written: {', '.join(broken[:3])} not finite in float16 (training "
            "diverged?)"
        )

    data = save(half)
    description = {**_without_none(asdict(config)), "sha256": hashlib.sha256(data).hexdigest()}
    write_atomically(data, target, overwrite=True)
    write_atomically(
        (json.dumps(description, indent=2) + "\n").encode(),
        target.with_suffix(".json"),
        overwrite=True,
    )

    return target


def initial_weights(
    model: str, config: ModelConfig | None
) -> tuple[ModelConfig, Mapping[str, Tensor]]:
    """Read weights to start from.

    Args:
        model: Name of a shipped model, or path of a .safetensors file.
        config: Description of the model to train, whatever it was distilled for; None takes that of
            the weights.

    Raises:
        BadArgument: The weights are of another model than ``config``; names the first differences.
        UnreadableInput: There is no such model, or it is damaged.
    """
    try:
        checkpoint = pretrained.load(model)
    except pretrained.CheckpointError as error:
        raise UnreadableInput(f"`init`={model}: {error}") from None

    try:
        found = ModelConfig.from_dict(checkpoint.config)
        build_denoiser(found, checkpoint.state)
    except (TypeError, ValueError) as error:
        raise UnreadableInput(f"`init`={model}: {error}") from None

    if config is None:
        return found, checkpoint.state
    if different := differences(_comparable(config, found), found):
        raise BadArgument(
            f"`init`={model}: another model than the recipe's; recipe | file: "
            f"{'; '.join(different[:4])}{' …' if len(different) > 4 else ''}"
        )

    return replace(config, distilled_levels=found.distilled_levels), checkpoint.state


def _comparable(config: ModelConfig, found: ModelConfig) -> ModelConfig:
    """Return a model without what its initial weights may lack or have otherwise.

    These are the levels that they were distilled for, a predictor, and whether its answer is the
    condition.
    """
    config = replace(config, distilled_levels=found.distilled_levels)
    if config.predictor is None or found.predictor is None:
        predictor = None if config.predictor is None else found.predictor
        return replace(config, predictor=predictor, condition_picture="degraded")
    return replace(config, condition_picture=found.condition_picture)


def _without_none(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        k: _without_none(v) if isinstance(v, Mapping) else v
        for k, v in table.items()
        if v is not None
    }


def part_of(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors named ``prefix/NAME`` by NAME."""
    start = f"{prefix}/"
    return {
        name.removeprefix(start): tensor
        for name, tensor in tensors.items()
        if name.startswith(start)
    }


def _write(
    parts: Mapping[str, Mapping[str, Tensor]], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write the tensors of all parts to one file, named ``part/name``."""
    plain = {
        f"{p}/{k}": t.detach().cpu().contiguous()
        for p, tensors in parts.items()
        for k, t in tensors.items()
    }
    write_atomically(save(plain, metadata), path, overwrite=True)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UnreadableInput(f"{path}: not a readable checkpoint: {error}") from None


def _metadata(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UnreadableInput(f"{path}: not a readable checkpoint: {error}") from None

    if metadata.get("format") != _FORMAT:
        raise UnreadableInput(f"{path}: not a checkpoint of a training run")
    return metadata
