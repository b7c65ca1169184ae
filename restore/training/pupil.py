"""A network that is being trained, with its optimisers and the averages of its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from restore.backbone import Backbone
from restore.runtime.devices import compiled
from restore.training.ema import Averages
from restore.training.optimiser import Optimisers
from restore.training.processes import Processes
from restore.training.recipe import Recipe
from restore.training.recipe_sections import OptimiserRecipe


class Pupil:
    """One of the networks that a run trains.

    Args:
        network: Network with its initial weights; it is moved to the device.
        recipe: Recipe of the run.
        optimiser: Recipe of this network's optimiser.
        processes: Processes that share each batch.
        dtype: Type of Muon's matrix products.

    Attributes:
        steps: Number of steps it has taken, which its averages count by.
    """

    def __init__(
        self,
        network: Backbone,
        recipe: Recipe,
        optimiser: OptimiserRecipe,
        processes: Processes,
        dtype: torch.dtype,
    ) -> None:
        self.recipe = recipe
        self.optimiser_recipe = optimiser
        self._dtype = dtype
        self.network = network.to(processes.device).to(memory_format=torch.channels_last)
        run: nn.Module = self.network
        if recipe.run.compile:
            run = compiled(self.network, processes.device, alone=processes.count == 1)

        self.run = processes.parallel(run)
        self.steps = 0
        self._begin()

    @property
    def exported(self) -> Mapping[str, Tensor]:
        """The exported weights: the last average."""
        return self.averages.averages[self.recipe.ema.decays[-1]]

    @property
    def finite(self) -> bool:
        """True if all weights are finite."""
        return all(bool(torch.isfinite(p).all()) for p in self.network.parameters())

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Load weights of the right names and shapes, of any float type.

        Optimisers and averages begin anew.
        """
        self.network.load_state_dict({name: w.float() for name, w in weights.items()})
        self._begin()

    def clipped_norm(self) -> float:
        """Scale the gradient down to the recipe's norm, and return what it was.

        Raises:
            RuntimeError: It is not finite.
        """
        limit = self.optimiser_recipe.gradient_norm or math.inf
        return float(
            nn.utils.clip_grad_norm_(self.network.parameters(), limit, error_if_nonfinite=True)
        )

    @property
    def broken_gradients(self) -> list[str]:
        """Names of the weights whose gradient is not finite."""
        grads = (
            (name, p.grad) for name, p in self.network.named_parameters() if p.grad is not None
        )
        return [name for name, grad in grads if not bool(torch.isfinite(grad).all())]

    def step(self, factor: float) -> None:
        """Take one step at ``factor`` times the highest rate."""
        self.optimisers.step(factor)
        self.steps += 1
        self.averages.update(self.steps)

    def load(
        self,
        steps: int,
        network: Mapping[str, Tensor],
        averages: Mapping[str, Tensor],
        optimiser: Mapping[str, Tensor],
    ) -> None:
        """Continue from a saved state."""
        self.steps = steps
        self.network.load_state_dict(network)
        self.averages.load_state(averages)
        self.optimisers.load_state(optimiser)

    def _begin(self) -> None:
        self.steps = 0
        self.optimisers = Optimisers(self.network, self.optimiser_recipe, self._dtype)
        weights = dict(self.network.named_parameters())
        ema = self.recipe.ema
        self.averages = Averages(weights, ema.decays, ema.every)
