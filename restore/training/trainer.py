"""A training run, from a folder of pictures to a run folder with a model in it.

A run folder holds ``recipe.toml``, ``log.csv``, ``samples.png``, ``checkpoint.safetensors`` with
its optimiser file, ``before-cooldown/`` (the checkpoint from which a longer run can continue) and
the model: ``model.safetensors`` and ``model.json``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from restore.diffusion.predictor import PREFIX
from restore.errors import BadArgument, FileAccess
from restore.files import refuse_long
from restore.photo.apart import decoding_apart
from restore.training.batches import BatchSettings
from restore.training.checkpoint import CHECKPOINT, State, initial_weights, load_state
from restore.training.class_batches import ClassBatches, class_names
from restore.training.classifier_learner import ClassifierLearner
from restore.training.classifier_recipe import ClassifierRecipe
from restore.training.clock import RunningClock
from restore.training.device_batches import batch_source
from restore.training.learner import Learner
from restore.training.processes import Interruption, joined
from restore.training.recipe import Recipe, default_model, differences
from restore.training.recipe_checks import check_recipe
from restore.training.recipe_file import read_recipe
from restore.training.run import BEFORE_COOLDOWN, RECIPE, BatchSource, Progress, Run, Summary
from restore.training.samples import SIDE, centre_crops


@dataclass(frozen=True)
class Options:
    """Options of a training run.

    Attributes:
        out: The run folder.
        data: Folder of photographs; for a classifier with a folder for each class.
        recipe: TOML file or recipe; None is the default recipe, or the run's own on resuming.
        minutes: Length of the run; None is the recipe's. On resuming it may differ from before.
        steps: Length in steps instead, likewise.
        resume: True continues the run in ``out``.
        init: Initial weights: a shipped model's name or a .safetensors file.
        device: See `restore.runtime.devices.choose_device`.
        validation: Folder of pictures for the samples; None takes training pictures.
        cache: Folder for decoded pictures, see `restore.training.pictures.Pictures`.
    """

    out: Path
    data: Path | None = None
    recipe: Path | Recipe | None = None
    minutes: float | None = None
    steps: int | None = None
    resume: bool = False
    init: str | None = None
    device: str = "auto"
    validation: Path | None = None
    cache: Path | None = None


def train(
    options: Options,
    *,
    batches: BatchSource | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    notice: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] | None = None,
) -> Summary:
    """Train, or continue training.

    Args:
        options: See `Options`.
        batches: Used instead of ``options.data``; of any size, as `with_size` is called.
        progress: Called after each step, by the first process.
        notice: Called with messages for the user, such as skipped pictures.
        clock: Returns the time in seconds; None does not count while the process is stopped.

    Raises:
        BadArgument: A recipe or option cannot be used, or does not fit the resumed run.
        FileAccess: A folder cannot be read or written, holds a run already, or has none to resume.
        NothingToDo: There is no picture that can be used.
        TrainingDiverged: A loss or gradient is not finite; the run folder keeps the last good
            state.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the checkpoint has been written.
    """
    with (
        joined(options.device) as processes,
        Interruption() as interruption,
        RunningClock() as running,
    ):
        recipe, state, weights = _beginning(options)
        _check_parts(recipe, processes.count)
        say = notice if processes.first else lambda _: None
        if batches is None:
            batches = _batches(options, recipe, processes.device, say)
        _tell_skipped(batches, say)
        shown = None
        if options.validation is not None:
            side = None if recipe.model is None else recipe.model.size
            with decoding_apart():
                shown = centre_crops(options.validation, side=side or SIDE)

        processes.wait()
        kind = Learner if recipe.classifier is None else ClassifierLearner
        learner = kind(recipe, processes)
        if weights is not None:
            learner.start_from(weights)
        run = Run(options.out, learner, batches, shown, say, clock or running)
        if state is not None:
            run.resume(state)
        return run.through(interruption, progress if processes.first else lambda _: None)


def _tell_skipped(batches: BatchSource, say: Callable[[str], None]) -> None:
    if batches.skipped:
        names = ", ".join(f"{s.path} ({s.reason})" for s in batches.skipped[:3])
        more = " …" if len(batches.skipped) > 3 else ""
        say(f"{len(batches.skipped)} picture(s) skipped: {names}{more}")


def _batches(
    options: Options, recipe: Recipe, device: torch.device, notice: Callable[[str], None]
) -> BatchSource:
    if options.data is None:
        raise BadArgument("`data` is missing: which folder of photographs to learn from?")

    data = recipe.data
    settings = BatchSettings(
        crop=data.crop,
        batch=data.batch,
        unconditional_fraction=data.unconditional_fraction,
        seed=recipe.run.seed,
        degradations=data.degradations,
        augmentation=data.augmentation,
        predictor=recipe.predictor_data,
    )

    if recipe.classifier is not None:
        names = recipe.classifier.names
        return ClassBatches(options.data, names, settings, cache=options.cache)

    return batch_source(
        recipe.run.data, options.data, settings, device=device, notice=notice, cache=options.cache
    )


def _beginning(options: Options) -> tuple[Recipe, State | None, Mapping[str, Tensor] | None]:
    """Return the recipe with its model, and a saved state or weights to start from, if any."""
    recipe = options.recipe
    if isinstance(recipe, Path):
        recipe = read_recipe(recipe)
    if options.resume:
        state = _resumed(options, recipe)
        return state.recipe, state, None

    refuse_long(options.out / CHECKPOINT, "give another `out`")
    recipe = (recipe or Recipe()).with_length(options.steps, options.minutes)
    taken = next((n for n in (RECIPE, CHECKPOINT) if (options.out / n).exists()), None)
    if taken:
        raise FileAccess(
            f"{options.out / taken}: a run is here already; pass `resume`, or another `out`"
        )

    if recipe.classifier is not None:
        recipe = _for_classes(recipe, recipe.classifier, options)
    weights = None
    if options.init is not None:
        model, weights = initial_weights(options.init, recipe.model)
    else:
        model = recipe.model or default_model()

    if recipe.distillation is None:  # trained at all levels
        model = replace(model, distilled_levels=None)
    elif weights is None:
        raise BadArgument(
            "[distillation]: which model is to be distilled? Pass `init`, as in `init` default"
        )

    recipe = replace(recipe, model=model)
    if model.predictor is not None:
        random = weights is None or not any(name.startswith(PREFIX) for name in weights)
        recipe = replace(recipe, predictor=recipe.predictor.for_start(random=random))
    check_recipe(recipe)

    return recipe, None, weights


def _for_classes(recipe: Recipe, classifier: ClassifierRecipe, options: Options) -> Recipe:
    """Return the recipe of a classifier with the names of the classes, which the folders have.

    Raises:
        BadArgument: Options that a classifier does not take, or other classes than the recipe's.
        FileAccess, NothingToDo: See `class_names`.
    """
    if options.init is not None:
        raise BadArgument("`init`: a classifier begins with random weights; leave it out")
    if options.validation is not None:
        raise BadArgument("`validation`: is for the samples of a model; a classifier makes none")
    if options.data is None:
        raise BadArgument("`data` is missing: which folder has a folder of photographs per class?")

    names = class_names(options.data)
    if classifier.names not in ((), names):
        raise BadArgument(
            f"{options.data}: its folders are {', '.join(names)}; the classes of the recipe are "
            f"{', '.join(classifier.names)}"
        )
    return replace(recipe, classifier=replace(classifier, names=names))


def _resumed(options: Options, asked: Recipe | None) -> State:
    """Return the saved state, with the length in its recipe that is wanted now."""
    if options.init is not None:
        raise BadArgument("`resume` and `init`; a run that is resumed has its weights")

    state = load_state(options.out)
    recipe = state.recipe
    if recipe.classifier is not None:
        _for_classes(recipe, recipe.classifier, options)
    if asked is not None:
        asked = replace(asked, model=asked.model or recipe.model)
        if asked.predictor.fraction is None:
            predictor = replace(asked.predictor, fraction=recipe.predictor.fraction)
            asked = replace(asked, predictor=predictor)
        if asked.classifier is not None and recipe.classifier is not None:
            asked = replace(
                asked, classifier=replace(asked.classifier, names=recipe.classifier.names)
            )
        schedule = replace(
            asked.schedule, steps=recipe.schedule.steps, minutes=recipe.schedule.minutes
        )
        same_length = replace(asked, schedule=schedule)
        if different := differences(recipe, same_length):
            raise BadArgument(
                f"{options.out}: another recipe than the run's; run | recipe: "
                f"{'; '.join(different[:4])}{' …' if len(different) > 4 else ''}; leave `recipe` "
                "out, or start a run in another folder"
            )
        if (asked.schedule.steps, asked.schedule.minutes) != (None, None):
            recipe = replace(recipe, schedule=asked.schedule)

    recipe = recipe.with_length(options.steps, options.minutes)
    if recipe.distillation is not None and recipe.schedule != state.recipe.schedule:
        raise BadArgument(
            f"{options.out}: a distillation keeps its length, which its rounds share; leave "
            "`steps` and `minutes` out"
        )

    return replace(_before_cooldown(options.out, state, recipe), recipe=recipe)


def _before_cooldown(folder: Path, state: State, recipe: Recipe) -> State:
    """Return the state before the cool-down, if the run was lengthened after that began."""
    was, now = (
        r.schedule.fraction_after(state.step, state.elapsed) for r in (state.recipe, recipe)
    )
    cooled = was > state.recipe.schedule.cooldown_start
    earlier = folder / BEFORE_COOLDOWN
    return load_state(earlier) if cooled and now < was and earlier.is_dir() else state


def _check_parts(recipe: Recipe, count: int) -> None:
    """Refuse batches that the processes cannot share evenly."""
    for stage in range(len(recipe.data.larger_crops) + 1):
        crop, batch = recipe.data.size(stage)
        if batch % count:
            raise BadArgument(
                f"[data] a batch of {batch} crops of {crop} pixels: must be a multiple of {count} "
                "processes"
            )
