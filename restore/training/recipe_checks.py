"""Whether the sections of a recipe fit together, and what to change where they do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from restore.backbone import build_backbone
from restore.diffusion.denoiser import ModelConfig
from restore.diffusion.schedule import NoiseSchedule
from restore.errors import BadArgument
from restore.training.classifier_recipe import ClassifierRecipe
from restore.training.mixture import Mixture
from restore.training.recipe import Recipe, default_model, differences
from restore.training.recipe_sections import ObjectiveRecipe, PredictorRecipe
from restore.training.rounds import DistillationRecipe


def check_recipe(recipe: Recipe) -> None:
    """Check that model, crops and objective fit together.

    Raises:
        BadArgument: They do not.
    """
    model = recipe.model or default_model()
    _check_model(model)
    _check_data(recipe, model)
    if bool(recipe.objective.noiseless_fraction) != (model.one_step == "zeros"):
        wanted = "above 0" if model.one_step == "zeros" else "0"
        raise BadArgument(
            f"[objective] noiseless_fraction: must be {wanted} for a model whose one_step is "
            f"{model.one_step!r}"
        )

    recipe.objective.check_weighting(model.backbone.learned_variance)
    if model.noise_variance is not None and recipe.objective.weighting != "simple":
        raise BadArgument(
            f"[objective] weighting = {recipe.objective.weighting!r}: must be 'simple' for a "
            "model with a noise_variance"
        )
    if recipe.classifier is not None:
        _check_classifier(recipe, recipe.classifier, model)
    _check_predictor(recipe, model)
    _check_labels(recipe, model)
    _check_bridge(recipe, model)
    if recipe.distillation is not None:
        _check_distillation(recipe, recipe.distillation, model)


def _check_model(model: ModelConfig) -> None:
    try:
        NoiseSchedule.named(**model.schedule)
        with _meta():
            build_backbone(model.backbone)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise BadArgument(f"[model]: {error}") from None

    if model.parameterization == "flow":
        raise BadArgument(
            "[model] parameterization = flow: is for third-party networks; v differs from it by "
            "the scale of the noisy picture"
        )
    if model.time_scale != 1:
        raise BadArgument(
            "[model] time_scale: must be 1; scaled steps are for third-party networks"
        )


def _check_data(recipe: Recipe, model: ModelConfig) -> None:
    backbone = model.backbone
    for stage in range(len(recipe.data.larger_crops) + 1):
        crop, _ = recipe.data.size(stage)
        if crop % backbone.size_multiple:
            raise BadArgument(
                f"[data] crop {crop}: must be a multiple of {backbone.size_multiple} for this model"
            )
        if model.size not in (None, crop):
            raise BadArgument(
                f"[data] crop {crop}: must be {model.size}, the model's only size, throughout"
            )


def _check_predictor(recipe: Recipe, model: ModelConfig) -> None:
    if model.predictor is None:
        own = replace(recipe.predictor, fraction=recipe.predictor.fraction or None)
        if unused := differences(PredictorRecipe(), own):
            keys = ", ".join(text.split(":")[0] for text in unused)
            raise BadArgument(
                f"[predictor] {keys}: the model has no predictor to train; describe one in "
                "[model.predictor], or leave [predictor] out"
            )
        return

    try:
        with _meta():
            build_backbone(model.predictor.backbone)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise BadArgument(f"[model.predictor]: {error}") from None

    if not model.backbone.condition_channels:
        raise BadArgument(
            "[model.predictor]: [model.backbone] needs condition_channels beside a predictor"
        )
    if recipe.distillation is not None and recipe.predictor.fraction:
        raise BadArgument(
            f"[predictor] fraction = {recipe.predictor.fraction:g}: a distillation trains the "
            "denoiser alone; use 0"
        )


def _check_labels(recipe: Recipe, model: ModelConfig) -> None:
    backbone = model.backbone
    unconditional = not backbone.condition_channels and model.bridge is None
    if unconditional and recipe.data.unconditional_fraction < 1:
        raise BadArgument(
            "[data] unconditional_fraction: must be 1 for a model without condition_channels, "
            "which sees no condition"
        )
    if backbone.classes:
        raise BadArgument(
            "[model.backbone] classes: must be 0; a folder of photographs has no labels to learn"
        )


def _check_bridge(recipe: Recipe, model: ModelConfig) -> None:
    if model.bridge is None:
        return

    begins = "a bridge begins at a degraded picture"
    if recipe.data.unconditional_fraction:
        raise BadArgument(f"[data] unconditional_fraction: must be 0: {begins}")
    if recipe.objective.weighting != "simple" or model.backbone.learned_variance:
        raise BadArgument(
            f"[objective] weighting: must be 'simple', without a learned variance: {begins}, "
            "and has no variational bound"
        )
    if recipe.distillation is not None:
        raise BadArgument(f"[distillation]: {begins}, and only noise is distilled")
    if model.predictor is not None:
        raise BadArgument(f"[model.predictor]: {begins}, and takes no prediction")


def _check_classifier(recipe: Recipe, classifier: ClassifierRecipe, model: ModelConfig) -> None:
    beside = "the recipe has a [classifier], which "
    if (model.parameterization, model.time) != ("epsilon", "step") or model.bridge is not None:
        raise BadArgument(f"[model]: {beside}needs parameterization = epsilon and time = step")
    if recipe.distillation is not None:
        raise BadArgument(f"[distillation]: {beside}is not distilled")
    if recipe.data.degradations != Mixture():
        raise BadArgument(f"[data.degradations]: {beside}sees noise alone")
    if recipe.data.larger_crops and classifier.pool == "attention":
        raise BadArgument(f"[data] larger_crops: {beside}has an attention pool, for one size")
    if recipe.run.data == "device":
        raise BadArgument(f"[run] data = 'device': {beside}takes its pictures from the host")

    own = ("levels", "loss_aware_history", "log_normal_mean", "log_normal_std")
    used = {name: getattr(recipe.objective, name) for name in (*own, "log_normal_uniform")}
    plain = ObjectiveRecipe(noiseless_fraction=recipe.objective.noiseless_fraction, **used)
    if unused := differences(plain, recipe.objective):
        keys = ", ".join(text.split(":")[0] for text in unused)
        raise BadArgument(f"[objective] {keys}: {beside}learns by cross-entropy; leave it out")

    # the folders name the classes later
    named = replace(classifier, names=classifier.names or ("one", "other"))
    named.config(model, recipe.data.crop)


def _check_distillation(
    recipe: Recipe, distillation: DistillationRecipe, model: ModelConfig
) -> None:
    if model.parameterization == "epsilon":
        raise BadArgument(
            "[distillation]: the model is an epsilon-network, in whose picture x − σ ε an "
            "error of ε counts σ times. Of few steps each begins at a large σ, so a v- or "
            "x0-network is needed"
        )
    if model.backbone.learned_variance:
        raise BadArgument(
            "[distillation]: the model has a learned variance, which DDIM does not use; it "
            "would be lost"
        )

    unused = differences(
        ObjectiveRecipe(noiseless_fraction=recipe.objective.noiseless_fraction), recipe.objective
    )
    if unused:
        keys = ", ".join(text.split(":")[0] for text in unused)
        raise BadArgument(
            f"[objective] {keys}: not used in a distillation, which has its own loss; leave it out"
        )

    try:
        distillation.grid(model, 0)
    except ValueError as error:
        raise BadArgument(f"[distillation]: {error}") from None

    if recipe.schedule.steps is not None and recipe.schedule.steps * distillation.shortest < 1:
        raise BadArgument(
            f"[schedule] steps = {recipe.schedule.steps}: less than one for the shortest round"
        )


def _meta() -> Any:
    import torch

    return torch.device("meta")
