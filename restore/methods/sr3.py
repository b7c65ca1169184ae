"""The method ``sr3``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from restore.diffusion.denoiser import Denoise
from restore.diffusion.guidance import classifier_free
from restore.diffusion.level_search import Levels
from restore.diffusion.stepping import corrected, start, within_pictures
from restore.methods.conditions import PREDICTED_NOISE, condition_of
from restore.methods.defaults import Defaults
from restore.methods.method import Method
from restore.methods.run import Run
from restore.samplers.catalogue import SAMPLERS, Sampler
from restore.solvers import sr3

# Standard deviation of the error of the default model's estimates in [-1, 1], tuned.
ESTIMATE_ERROR = 0.05
# Highest σ of other samplers for SR3: above it the condition tells more than the noisy picture, and
# few steps are better spent below.
SAMPLED_FROM = 5.0


def solve(run: Run) -> Tensor:
    """Sample from the conditional network, with estimates projected onto the measurement."""
    if run.settings.sampler is not None:
        return _sampled(run, SAMPLERS[run.settings.sampler])

    condition = condition_of(run, "sr3")
    return sr3(
        _guided(run),
        condition,
        run.sigmas,
        generator=run.generator,
        eta=run.eta,
        start=run.start,
        correct=run.consistent(ESTIMATE_ERROR),
        callback=run.callback_inside,
    )


def _sampled(run: Run, sampler: Sampler) -> Tensor:
    """Sample by one of the unconditional samplers."""
    condition = condition_of(run, "sr3")
    sigmas = run.sigmas
    own = run.denoiser.distilled_levels
    if own is not None and len(own) == run.settings.steps:
        sigmas = [*own, 0.0]

    noise = start(torch.zeros_like(condition.picture), sigmas[0], run.generator)
    random: dict[str, Any] = {"generator": run.generator} if sampler.random else {}
    return sampler.run(
        corrected(_guided(run), run.consistent(ESTIMATE_ERROR)),
        noise if run.start is None else noise + run.start,
        sigmas,
        condition=condition,
        callback=run.callback_inside,
        **random,
    )


def _guided(run: Run) -> Denoise:
    """Return the network, with classifier-free guidance if its scale is not 1."""
    scale = run.settings.guidance
    denoise = run.denoiser if scale == 1 else classifier_free(run.denoiser, scale)
    return within_pictures(denoise) if run.denoiser.predicts_noise else denoise


SR3 = Method(
    "sr3",
    "Super-Resolution via Repeated Refinement (Saharia et al. 2021, arXiv 2104.07636), each "
    "estimate corrected to explain the measurement",
    solve,
    Defaults(steps=20),
    with_predictor={
        "sr": Defaults(steps=6, predicted=PREDICTED_NOISE),
        "deblur": Defaults(steps=20, predicted=PREDICTED_NOISE),
    },
    few_steps={
        # by `restore.evaluate.tune`; those of 8 steps lie between
        "sr": {
            5: Levels(highest=20.0, lowest=0.1, rho=12.8, eta=0.1),
            6: Levels(highest=10.0, lowest=0.025, rho=12.8, eta=0.475),
            8: Levels(highest=20.0, lowest=0.025, rho=8.0, eta=0.475),
            10: Levels(highest=40.0, lowest=0.025, rho=5.0, eta=0.475),
        }
    },
    needs_prior=False,
    needs_condition=True,
    samplers=True,
    compared=True,
    stage_noise=0.02,
)
