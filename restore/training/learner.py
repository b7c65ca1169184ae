"""The networks that learn, one step at a time, with everything that they remember between steps.

Every random number comes from (seed, step), so that a learner that is saved and loaded continues
exactly as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call

from pretrained.classifier_description import ClassifierConfig
from restore.backbone import Backbone, BackboneConfig, build_backbone
from restore.diffusion.denoiser import (
    Condition,
    Denoiser,
    ModelConfig,
    build_denoiser,
    joined_state,
    split_state,
)
from restore.diffusion.evidence import Evidence
from restore.diffusion.predictor import Predictor, predicted
from restore.diffusion.seeds import seed_of
from restore.errors import RestoreError
from restore.runtime.devices import network_dtype
from restore.training.batches import Batch
from restore.training.checkpoint import State
from restore.training.distillation import Distillation
from restore.training.losses import predictor_losses
from restore.training.noise_levels import Draw
from restore.training.objective import Objective
from restore.training.optimiser import rate_factor
from restore.training.processes import Processes
from restore.training.pupil import Pupil
from restore.training.recipe import Recipe, default_model
from restore.training.recipe_sections import OptimiserRecipe


class TrainingDiverged(RestoreError):
    """A loss, a gradient or a weight is not finite."""


class Step(NamedTuple):
    """Result of a training step; tensors are [B] on the CPU, of the whole batch.

    Attributes:
        losses: Loss of each picture, without weights.
        gamma: Noise level γ = ᾱ of each picture; None in a step of the predictor.
        conditional: True for pictures with a condition; None in a step of the predictor.
        gradient: Norm of the gradient before clipping.
        rate: Learning rate.
        hits: True for pictures whose class was found; None unless a classifier is trained.
    """

    losses: Tensor
    gamma: Tensor | None
    conditional: Tensor | None
    gradient: float
    rate: float
    hits: Tensor | None = None


class Learner:
    """The networks of a model with their objectives, optimisers and averages.

    A step trains the denoiser or, in the recipe's fraction of the steps, the predictor.

    Args:
        recipe: See `Recipe`.
        processes: Processes that share each batch.

    Attributes:
        step: Number of steps taken.
        round: Round of a distillation, from 0.
    """

    def __init__(self, recipe: Recipe, processes: Processes) -> None:
        self.recipe = recipe
        self.processes = processes
        self.model: ModelConfig = recipe.model or default_model()
        self.step = self.round = self._round_start = self._warm_up_start = 0
        self._dtype = (
            network_dtype(processes.device) if recipe.run.mixed_precision else torch.float32
        )
        self._precision = _autocast(processes.device, self._dtype)
        self.pupil = self._pupil(self.model.backbone, recipe.optimiser)
        self.predictor: Pupil | None = None
        if self.model.predictor is not None:
            optimiser = replace(recipe.optimiser, rate=recipe.predictor.rate)
            self.predictor = self._pupil(self.model.predictor.backbone, optimiser)

        self.objective = Objective(self.model, recipe.objective)
        self.teacher: Denoiser | None = None

    def learn(self, batch: Batch, fraction: float) -> Step:
        """Take one step.

        Args:
            batch: This process's part of the batch.
            fraction: Fraction of the run that is over, in [0, 1].

        Raises:
            TrainingDiverged: A loss or gradient is not finite; the weights are those from before
                the step.
        """
        torch.compiler.cudagraph_mark_step_begin()
        batch = batch.to(self.processes.device)
        step = (
            self._learn_predictor(batch, fraction)
            if self.trains_predictor
            else self._learn_denoiser(batch, fraction)
        )
        self.step += 1

        return step

    @property
    def trains_predictor(self) -> bool:
        """True if the next step trains the predictor."""
        data = self.recipe.predictor_data
        return data is not None and data.trains_at(self.step)

    def _learn_denoiser(self, batch: Batch, fraction: float) -> Step:
        processes = self.processes
        clean = batch.clean
        conditional = self._gathered_conditional(batch)
        mine = processes.share(len(conditional))
        draw = self.objective.draw(conditional, self._random(0))
        noise = white_noise(
            (len(conditional), *clean.shape[1:]), self._random(1, processes.device)
        )[mine]
        if self.model.backbone.dropout:
            torch.manual_seed(seed_of(self.recipe.run.seed, self.step, 2 + processes.rank))

        condition = self._condition(batch)
        terms = self.objective.terms(
            self._run, clean, condition, draw.part(mine).to(processes.device), noise
        )
        losses = self.objective.total(terms)
        weights = self.objective.weights(draw, conditional)[mine].to(processes.device)
        (weights * losses).mean().backward()
        seen = processes.gather(losses.detach())
        self._check_losses(seen, draw, conditional)
        gradient, rate = self._stepped(self.pupil, fraction)
        self.objective.learn(draw, conditional, seen)

        return Step(seen, draw.gamma, conditional, gradient, rate)

    def _learn_predictor(self, batch: Batch, fraction: float) -> Step:
        assert self.predictor is not None
        assert batch.evidence is not None
        losses = predictor_losses(
            self._predict(batch.evidence), batch.clean, self.recipe.predictor.loss
        )
        losses.mean().backward()
        seen = self.processes.gather(losses.detach())
        if not bool(torch.isfinite(seen).all()):
            raise TrainingDiverged(f"step {self.step}: a loss of the predictor is not finite")

        gradient, rate = self._stepped(self.predictor, fraction)

        return Step(seen, None, None, gradient, rate)

    def _condition(self, batch: Batch) -> Condition:
        """Return what the denoiser is shown: the predictor's answer, if a predictor takes part.

        The answer shows every pixel, if anything is known.
        """
        if batch.evidence is None:
            return batch.condition

        seen = batch.condition.known.flatten(1).any(dim=1)[:, None, None, None]
        with torch.no_grad():
            return Condition(
                self._predict(batch.evidence) * seen, seen.expand_as(batch.condition.known).float()
            )

    def _gathered_conditional(self, batch: Batch) -> Tensor:
        """Return which pictures of the whole batch have a condition, bool [B] on the CPU."""
        return self.processes.gather(
            batch.condition.known.flatten(1).any(dim=1).to(torch.uint8)
        ).bool()

    def _stepped(self, pupil: Pupil, fraction: float) -> tuple[float, float]:
        """Step a network's optimiser; return the norm of the gradient and the learning rate."""
        gradient = self._clipped_norm(pupil)
        if self.recipe.distillation is not None:
            fraction = self.recipe.distillation.fraction_of(self.round, fraction)

        warm_up_start = max(self._round_start, self._warm_up_start)
        factor = rate_factor(self.step - warm_up_start, fraction, self.recipe.schedule)
        pupil.step(factor)
        return gradient, factor * pupil.optimiser_recipe.rate

    @property
    def exported_model(self) -> ModelConfig:
        """Description of the exported model."""
        return self.recipe.exported_model(self.round)

    @property
    def description(self) -> ModelConfig | ClassifierConfig:
        """What is written beside the exported weights."""
        return self.recipe.description(self.round)

    @property
    def exported(self) -> Mapping[str, Tensor]:
        """Weights of the exported model, of both networks."""
        return joined_state(
            self.pupil.exported, {} if self.predictor is None else self.predictor.exported
        )

    @property
    def finite(self) -> bool:
        """True if all weights are finite."""
        return self.pupil.finite and (self.predictor is None or self.predictor.finite)

    def denoiser(self) -> Denoiser:
        """Return the exported model, as it is now."""
        predictor = None
        if self.predictor is not None and self.model.predictor is not None:
            predictor = Predictor(self._with(self.predictor), self.model.predictor)
        return Denoiser(self._with(self.pupil), self.model, predictor=predictor)

    def _with(self, pupil: Pupil) -> Callable[..., Tensor]:
        """Return a network with the exported weights."""

        def network(*inputs: Tensor) -> Tensor:
            with self._precision():
                return functional_call(pupil.network, dict(pupil.exported), inputs)

        return network

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Start from weights of the right names and shapes, of any float type.

        In a distillation the teacher takes them too. A predictor that the weights do not have keeps
        its random ones.
        """
        own, of_predictor = split_state(weights)
        self.pupil.start_from(own)
        if self.predictor is not None and of_predictor:
            self.predictor.start_from(of_predictor)
        if self.recipe.distillation is not None:
            self._teach(own)

    def next_round(self) -> None:
        """Let the student become the teacher, and a new student start from its weights."""
        self.round = self.round + 1
        self._round_start = self.step
        self.start_from(self.exported)

    def state(self, elapsed: float, log: Mapping[str, Tensor]) -> State:
        """Return everything that `load` needs, with the run's time and log."""
        second = self.predictor
        return State(
            self.step,
            elapsed,
            self.recipe,
            self.pupil.network.state_dict(),
            self.pupil.averages.state(),
            self.pupil.optimisers.state(),
            self.objective.state(),
            log,
            self.round,
            self._round_start,
            {} if self.teacher is None else self.teacher.network.state_dict(),
            {} if second is None else second.network.state_dict(),
            {} if second is None else second.averages.state(),
            {} if second is None else second.optimisers.state(),
            self._warm_up_start,
        )

    def load(self, state: State) -> None:
        """Continue from a saved state of the same recipe."""
        self.step = state.step
        self.round = state.round
        self._round_start = state.round_start
        self._warm_up_start = state.warm_up_start
        of_predictor = (
            0
            if self.recipe.predictor_data is None
            else self.recipe.predictor_data.steps_until(state.step)
        )
        steps = state.step - of_predictor - state.round_start
        self.pupil.load(steps, state.network, state.averages, state.optimiser)
        if self.predictor is not None:
            optimiser = state.predictor_optimiser
            self.predictor.load(of_predictor, state.predictor, state.predictor_averages, optimiser)
        if self.recipe.distillation is not None:
            self._teach(state.teacher)

        self.objective.load_state(state.objective)

    def _run(self, x: Tensor, time: Tensor) -> Tensor:
        with self._precision():
            return self.pupil.run(x.contiguous(memory_format=torch.channels_last), time)

    def _predict(self, evidence: Evidence) -> Tensor:
        pupil = self.predictor
        config = self.model.predictor
        assert pupil is not None
        assert config is not None

        def network(x: Tensor, numbers: Tensor) -> Tensor:
            with self._precision():
                return pupil.run(x.contiguous(memory_format=torch.channels_last), numbers)

        return predicted(network, config, evidence)

    def _random(self, stream: int, device: torch.device | str = "cpu") -> torch.Generator:
        """Return the generator for this step; each stream has its own."""
        return torch.Generator(device).manual_seed(seed_of(self.recipe.run.seed, self.step, stream))

    def _pupil(self, backbone: BackboneConfig, optimiser: OptimiserRecipe) -> Pupil:
        network = self._new_network(backbone)
        return Pupil(network, self.recipe, optimiser, self.processes, self._dtype)

    def _new_network(self, backbone: BackboneConfig) -> Backbone:
        """Return a network with random weights."""
        return new_network(backbone, self.recipe.run.seed)

    def _teach(self, weights: Mapping[str, Tensor]) -> None:
        """Make a network with these weights the teacher."""
        own = {name: weight.clone() for name, weight in weights.items()}
        alone = replace(self.model, predictor=None, condition_picture="degraded")
        self.teacher = build_denoiser(alone, own, self.processes.device, self._dtype)
        recipe = self.recipe
        assert recipe.distillation is not None
        self.objective = Distillation(
            self.model, recipe.objective, recipe.distillation, self.round, self.teacher
        )

    def _clipped_norm(self, pupil: Pupil) -> float:
        try:
            return pupil.clipped_norm()
        except RuntimeError:
            what = (
                "the gradient of "
                f"{', '.join(pupil.broken_gradients[:3]) or 'all weights together'} is not finite"
            )
            raise TrainingDiverged(f"step {self.step}: {what}") from None

    def _check_losses(self, losses: Tensor, draw: Draw, conditional: Tensor) -> None:
        bad = torch.nonzero(~torch.isfinite(losses)).flatten().tolist()
        if bad:
            sigma = float(((1 - draw.gamma[bad[0]]) / draw.gamma[bad[0]]).sqrt())
            kind = "conditional" if bool(conditional[bad[0]]) else "unconditional"
            raise TrainingDiverged(
                f"step {self.step}: the loss of {len(bad)} of {len(losses)} pictures is not finite "
                f"(first: picture {bad[0]} of the batch, {kind}, noise level {sigma:.3g})"
            )


def new_network(config: BackboneConfig, seed: int) -> Backbone:
    """Build a network with random weights that depend on the seed alone."""
    return seeded(lambda: build_backbone(config), seed)


def seeded(build: Callable[[], Backbone], seed: int) -> Backbone:
    """Build a network to train; its random weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed))
        return build().train()


def white_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw noise on the generator's device: the CPU would be too slow for a GPU."""
    return torch.randn(shape, generator=generator, device=generator.device)


def _autocast(
    device: torch.device, dtype: torch.dtype
) -> Callable[[], AbstractContextManager[object]]:
    if dtype == torch.float32:
        return nullcontext
    return lambda: torch.autocast(device.type, dtype)
