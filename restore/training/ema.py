"""Exponential moving averages of the weights, several decays at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class Averages:
    """Float32 averages of named tensors.

    After step n (counted from 1) an average becomes ``d_n ē + (1 − d_n) w`` with d_n = min(d, n/(9
    + n)). So the random start is forgotten within a few steps, and the average of a young run spans
    its last tenth. Dividing by 1 − Πd instead, as Adam does, would give all early weights equal
    weight, the useless first ones too.

    With ``every`` = k, the averages are updated every k steps with the product of those steps'
    decays, as if the weights had not changed in between.

    Args:
        weights: Tensors to average; the averages start from their values.
        decays: d of each average, in [0, 1).
        every: k.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], decays: Sequence[float], every: int = 1
    ) -> None:
        self.decays = tuple(decays)
        self.every = every
        self.weights = dict(weights)
        self.averages = {
            d: {k: w.detach().float().clone() for k, w in weights.items()} for d in self.decays
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step number ``step`` (from 1), if it is one in ``every``."""
        if step % self.every:
            return

        weights = [w.detach().float() for w in self.weights.values()]
        for decay, average in self.averages.items():
            kept = math.prod(
                effective_decay(decay, n) for n in range(step - self.every + 1, step + 1)
            )
            torch._foreach_lerp_(list(average.values()), weights, 1 - kept)

    def state(self) -> dict[str, Tensor]:
        """Return all averages as ``{decay/name: tensor}``."""
        return {f"{d}/{k}": w for d, average in self.averages.items() for k, w in average.items()}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Copy a state into the averages; the inverse of `state`."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


def effective_decay(decay: float, step: int) -> float:
    """Return min(d, n/(9 + n)) at step n = 1, 2, …"""
    return min(decay, step / (9 + step))
