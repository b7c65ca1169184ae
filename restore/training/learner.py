"""A network that learns: one step at a time, with everything that it remembers from step to step.

Every random number comes from (seed, step), so that a learner that is saved and loaded goes on exactly as if nothing
had happened.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from restore.backbone import Backbone, build_backbone
from restore.denoiser import Condition, Denoiser, ModelConfig, build_denoiser
from restore.devices import compiled, network_dtype
from restore.errors import RestoreError
from restore.seeds import seed_of
from restore.training.checkpoint import State
from restore.training.distillation import Distillation
from restore.training.ema import Averages
from restore.training.objective import Draw, Objective
from restore.training.optimiser import Optimisers, rate_factor
from restore.training.pictures import Batch
from restore.training.processes import Processes
from restore.training.recipe import Recipe, default_model


class TrainingDiverged(RestoreError):
    """A loss, a gradient or a weight is not finite."""


class Step(NamedTuple):
    """What a step of training tells; tensors are [B] on the CPU, of the whole batch."""

    losses: Tensor
    """Of each picture, without weights."""
    gamma: Tensor
    """Its noise level γ = ᾱ."""
    conditional: Tensor
    """Whether it had a condition, bool."""
    gradient: float
    """The norm of the gradient before clipping."""
    rate: float
    """The learning rate."""


class Learner:
    """A network with its objective, optimisers and averages.

    Args:
        recipe: see `Recipe`.
        processes: those that share each batch.

    Attributes:
        step: how many steps have been taken.
        round: of a distillation, from 0.
    """

    def __init__(self, recipe: Recipe, processes: Processes) -> None:
        self.recipe, self.processes = recipe, processes
        self.model: ModelConfig = recipe.model or default_model()
        self.step = self.round = self._round_start = 0
        self._dtype = network_dtype(processes.device) if recipe.run.mixed_precision else torch.float32
        self._precision = _autocast(processes.device, self._dtype)
        self.network = new_network(self.model, recipe.run.seed).to(processes.device, memory_format=torch.channels_last)
        run = (
            compiled(self.network, processes.device, alone=processes.count == 1) if recipe.run.compile else self.network
        )
        self._parallel = processes.parallel(run)
        self.objective = Objective(self.model, recipe.objective)
        self.teacher: Denoiser | None = None
        self.optimisers = self._new_optimisers()
        self.averages = self._new_averages()

    def learn(self, batch: Batch, share: float) -> Step:
        """Take one step.

        Args:
            batch: this process's part of it.
            share: of the run that is over.

        Raises:
            TrainingDiverged: a loss or gradient is not finite; the weights are those from before the step.
        """
        processes, device, step = self.processes, self.processes.device, self.step
        torch.compiler.cudagraph_mark_step_begin()
        clean, picture, known = (t.to(device, non_blocking=True) for t in (batch.clean, *batch.condition))
        conditional = processes.gather(batch.condition.known.flatten(1).any(dim=1).to(torch.uint8)).bool()
        mine = processes.share(len(conditional))
        draw = self.objective.draw(conditional, self._random(0))
        noise = white_noise((len(conditional), *clean.shape[1:]), self._random(1, device))[mine]
        if self.model.backbone.dropout:
            torch.manual_seed(seed_of(self.recipe.run.seed, step, 2 + processes.rank))
        terms = self.objective.terms(self._run, clean, Condition(picture, known), draw.part(mine).to(device), noise)
        losses = self.objective.total(terms)
        weights = self.objective.weights(draw, conditional)[mine].to(device)
        (weights * losses).mean().backward()
        seen = processes.gather(losses.detach())
        self._check_losses(seen, draw, conditional)
        gradient = self._clipped_norm()
        if self.recipe.distillation is not None:
            share = self.recipe.distillation.share_of(self.round, share)
        factor = rate_factor(step - self._round_start, share, self.recipe.schedule)
        self.optimisers.step(factor)
        self.step += 1
        self.averages.update(self.step - self._round_start)
        self.objective.learn(draw, conditional, seen)
        return Step(seen, draw.gamma, conditional, gradient, factor * self.recipe.optimiser.rate)

    @property
    def exported_model(self) -> ModelConfig:
        """The description of the model that comes out."""
        return self.recipe.exported_model(self.round)

    @property
    def exported(self) -> Mapping[str, Tensor]:
        """The weights of the model that comes out: the last average."""
        return self.averages.averages[self.recipe.ema.decays[-1]]

    @property
    def finite(self) -> bool:
        """Whether all weights are."""
        return all(bool(torch.isfinite(p).all()) for p in self.network.parameters())

    def denoiser(self) -> Denoiser:
        """The model that comes out, as it is now."""

        def network(x: Tensor, time: Tensor) -> Tensor:
            with self._precision():
                return functional_call(self.network, dict(self.exported), (x, time))

        return Denoiser(network, self.model)

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Take weights of the right names and shapes, of any float type; in a distillation, for the teacher too."""
        self.network.load_state_dict({name: w.float() for name, w in weights.items()})
        self.averages = self._new_averages()
        if self.recipe.distillation is not None:
            self._teach(weights)

    def next_round(self) -> None:
        """Let the student become the teacher, and a new student start from its weights."""
        self.round, self._round_start = self.round + 1, self.step
        self.start_from(self.exported)
        self.optimisers = self._new_optimisers()

    def state(self, elapsed: float, log: Mapping[str, Tensor]) -> State:
        """Everything that `load` needs, beside what is not the learner's own."""
        return State(
            self.step,
            elapsed,
            self.recipe,
            self.network.state_dict(),
            self.averages.state(),
            self.optimisers.state(),
            self.objective.state(),
            log,
            self.round,
            self._round_start,
            {} if self.teacher is None else self.teacher.network.state_dict(),
        )

    def load(self, state: State) -> None:
        """Go on from a saved state of the same recipe."""
        self.step, self.round, self._round_start = state.step, state.round, state.round_start
        self.network.load_state_dict(state.network)
        if self.recipe.distillation is not None:
            self._teach(state.teacher)
        self.averages.load_state(state.averages)
        self.optimisers.load_state(state.optimiser)
        self.objective.load_state(state.objective)

    def _run(self, x: Tensor, time: Tensor) -> Tensor:
        with self._precision():
            return self._parallel(x.contiguous(memory_format=torch.channels_last), time)

    def _random(self, stream: int, device: torch.device | str = "cpu") -> torch.Generator:
        """The random numbers of this step; each stream has its own."""
        return torch.Generator(device).manual_seed(seed_of(self.recipe.run.seed, self.step, stream))

    def _teach(self, weights: Mapping[str, Tensor]) -> None:
        """Learn from a network with these weights, which stays as it is."""
        own = {name: weight.clone() for name, weight in weights.items()}
        self.teacher = build_denoiser(self.model, own, self.processes.device, self._dtype)
        recipe = self.recipe
        self.objective = Distillation(self.model, recipe.objective, recipe.distillation, self.round, self.teacher)

    def _new_optimisers(self) -> Optimisers:
        return Optimisers(self.network, self.recipe.optimiser, self._dtype)

    def _new_averages(self) -> Averages:
        return Averages(dict(self.network.named_parameters()), self.recipe.ema.decays, self.recipe.ema.every)

    def _clipped_norm(self) -> float:
        limit = self.recipe.optimiser.gradient_norm or math.inf
        try:
            return float(nn.utils.clip_grad_norm_(self.network.parameters(), limit, error_if_nonfinite=True))
        except RuntimeError:
            grads = ((name, p.grad) for name, p in self.network.named_parameters() if p.grad is not None)
            names = [name for name, grad in grads if not bool(torch.isfinite(grad).all())]
            what = f"the gradient of {', '.join(names[:3]) or 'all weights together'} is not finite"
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


def new_network(config: ModelConfig, seed: int) -> Backbone:
    """A network with random weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed))
        return build_backbone(config.backbone).train()


def white_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Drawn where it is used: a training step's noise is too much to draw on the CPU for a GPU."""
    return torch.randn(shape, generator=generator, device=generator.device)


def _autocast(device: torch.device, dtype: torch.dtype) -> Callable[[], AbstractContextManager[object]]:
    if dtype == torch.float32:
        return nullcontext
    return lambda: torch.autocast(device.type, dtype)
