"""Adam, for solvers that minimise over a picture or its latents."""

from __future__ import annotations

import torch
from torch import Tensor

# Decay rates of the averages of the gradient and of its square, as in the code of RED-diff.
MOMENTUM = 0.9
SQUARE_MOMENTUM = 0.99
# Smallest divisor of a step of Adam: the gradient of a pixel that stays.
LEAST_SCALE = 1e-8


class Adam:
    """Adam (Kingma, Ba 2015, arXiv 1412.6980, algorithm 1).

    PyTorch's takes seconds to import its compiler at the first step.

    Args:
        like: What is optimised.
    """

    def __init__(self, like: Tensor) -> None:
        self.count = 0
        self.mean = torch.zeros_like(like)
        self.square = torch.zeros_like(like)

    def step(self, gradient: Tensor) -> Tensor:
        """Return the direction of a step, about 1 in size."""
        self.count += 1
        self.mean = torch.lerp(gradient, self.mean, MOMENTUM)
        self.square = torch.lerp(gradient**2, self.square, SQUARE_MOMENTUM)
        mean = self.mean / (1 - MOMENTUM**self.count)
        square = self.square / (1 - SQUARE_MOMENTUM**self.count)
        return mean / (square.sqrt() + LEAST_SCALE)
