"""The optimisers AdamW and Muon, and the learning rate schedule."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, overload

import torch
from torch import Tensor, nn

from restore.training.recipe_sections import OptimiserRecipe, ScheduleRecipe

# Coefficients a, b, c of the Newton-Schulz step, see `orthogonalised` (Jordan 2024).
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalised updates, for weights that act as matrices.

    Jordan 2024 (kellerjordan.github.io/posts/muon): M ← μ M + G, then W ← W − η O(G + μ M), where O
    replaces all singular values by about 1 through a few Newton-Schulz steps. A convolution [out,
    in, k, k] is the matrix [out, in k k]. The update is scaled by 0.2 √max(rows, columns), which
    gives it the size of AdamW's, so that both share a learning rate (Liu et al. 2025, arXiv
    2502.16982, eq. 4). For diffusion U-Nets: arXiv 2510.19376.

    Args:
        params: Tensors of two or more dimensions.
        lr: η.
        momentum: μ.
        weight_decay: The weights shrink by ``lr · weight_decay`` a step.
        iterations: Number of Newton-Schulz steps.
        dtype: Type of the matrix products in these; bfloat16 is enough.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        iterations: int = 5,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "weight_decay": weight_decay,
                "iterations": iterations,
            },
        )
        self.dtype = dtype

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None if closure is None else closure()
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape[weight.shape].append(weight)
            for weights in by_shape.values():
                self._step_alike(weights, group)

        return loss

    def _step_alike(self, weights: list[Tensor], group: Mapping[str, Any]) -> None:
        """Take one step for weights of one shape, orthogonalised together."""
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)

        momenta = [self.state[w]["momentum"] for w in weights]
        grads = [w.grad for w in weights if w.grad is not None]
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_add_(momenta, grads)
        updates = torch._foreach_add(grads, momenta, alpha=group["momentum"])

        # channels last, as the weights are in memory
        stacked = torch.stack([u.movedim(1, -1) for u in updates])
        directions = orthogonalised(stacked.flatten(2), group["iterations"], self.dtype)
        size = 0.2 * max(directions.shape[-2:]) ** 0.5
        steps = [d.movedim(-1, 1) for d in directions.to(stacked.dtype).view_as(stacked)]
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])

        torch._foreach_add_(weights, steps, alpha=-group["lr"] * size)


def orthogonalised(
    matrices: Tensor, iterations: int = 5, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return about U Vᵀ of matrices U S Vᵀ [..., m, n].

    X ← a X + (b X Xᵀ + c (X Xᵀ)²) X from X = M/‖M‖ (Jordan 2024). Singular values above about 1e-2
    of the norm come within 0.7 … 1.2 in five iterations; zero stays zero.

    Returns:
        [..., m, n] in ``dtype``, in which the products are made.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrices if matrices.shape[-2] <= matrices.shape[-1] else matrices.mT
    x = (x / torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True).clamp_min(1e-12)).to(dtype)
    wide = x.shape
    x = x.reshape(-1, *x.shape[-2:])

    for _ in range(iterations):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)

    x = x.reshape(wide)

    return x if x.shape == matrices.shape else x.mT


class Optimisers:
    """Optimisers of all weights of a network, driven by one learning rate.

    Args:
        network: A `Backbone`.
        recipe: See `OptimiserRecipe`.
        dtype: Type of Muon's matrix products.
    """

    def __init__(
        self, network: nn.Module, recipe: OptimiserRecipe, dtype: torch.dtype = torch.float32
    ) -> None:
        self.recipe = recipe
        named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        hidden = {
            name for name, p in named if recipe.kind == "muon" and is_hidden_convolution(name, p)
        }
        rest = [(name, p) for name, p in named if name not in hidden]
        decayed = [name for name, p in rest if p.ndim >= 2]
        order = [*decayed, *(name for name, _ in rest if name not in decayed)]
        by_name = dict(named)
        groups = [
            {"params": [by_name[n] for n in decayed], "weight_decay": recipe.weight_decay},
            {"params": [by_name[n] for n in order[len(decayed) :]], "weight_decay": 0.0},
        ]
        self.parts: list[tuple[list[str], torch.optim.Optimizer]] = [(order, adamw(groups, recipe))]
        if hidden:
            names = [name for name, _ in named if name in hidden]
            muon = Muon(
                [by_name[n] for n in names],
                recipe.rate,
                recipe.muon_momentum,
                recipe.weight_decay,
                recipe.newton_schulz_steps,
                dtype,
            )
            self.parts.append((names, muon))

    def step(self, factor: float) -> None:
        """Take one step at ``factor`` times the recipe's rate; the gradients are dropped."""
        for _, optimiser in self.parts:
            for group in optimiser.param_groups:
                group["lr"] = self.recipe.rate * factor
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Return the state as ``{weight/quantity: tensor}``."""
        return {
            f"{names[index]}/{key}": torch.as_tensor(value)
            for names, optimiser in self.parts
            for index, values in optimiser.state_dict()["state"].items()
            for key, value in values.items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Load a state; the inverse of `state`."""
        for names, optimiser in self.parts:
            places = {name: i for i, name in enumerate(names)}
            weights = [p for group in optimiser.param_groups for p in group["params"]]
            values: dict[int, dict[str, Tensor]] = defaultdict(dict)
            for key, tensor in state.items():
                name, quantity = key.rsplit("/", 1)
                if name in places:
                    index = places[name]
                    values[index][quantity] = _laid_out_as(weights[index], tensor)
            groups = optimiser.state_dict()["param_groups"]
            optimiser.load_state_dict({"state": dict(values), "param_groups": groups})


def adamw(groups: list[dict[str, Any]], recipe: OptimiserRecipe) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov, Hutter 2019, arXiv 1711.05101), fused on devices that can."""
    try:
        return torch.optim.AdamW(groups, lr=recipe.rate, betas=recipe.betas, fused=True)
    except RuntimeError:
        return torch.optim.AdamW(groups, lr=recipe.rate, betas=recipe.betas)


def is_hidden_convolution(name: str, weight: Tensor) -> bool:
    """Return True for the weight of a convolution, except the first and last of a `Backbone`."""
    return weight.ndim > 2 and not name.startswith(("input_blocks.0.", "stem.", "out."))


def rate_factor(step: int, progress: float, schedule: ScheduleRecipe) -> float:
    """Return the learning rate as a fraction of the highest.

    It rises linearly, is held, and falls linearly to exactly 0 at the end (Hägele et al. 2024,
    arXiv 2405.18392).

    Args:
        step: Number of steps taken.
        progress: Fraction of the run that is over, by steps or by time.
        schedule: See `ScheduleRecipe`.
    """
    warm = min(1.0, (step + 1) / schedule.warmup_steps) if schedule.warmup_steps else 1.0
    cool = min(1.0, (1 - min(progress, 1.0)) / schedule.cooldown) if schedule.cooldown else 1.0
    return warm * cool


def _laid_out_as(weight: Tensor, tensor: Tensor) -> Tensor:
    """Return ``tensor`` in the memory layout of ``weight``, if they have one shape."""
    return (
        torch.empty_like(weight, dtype=tensor.dtype).copy_(tensor)
        if tensor.shape == weight.shape
        else tensor
    )
