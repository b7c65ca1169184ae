"""Progressive distillation: a student learns to take one step of DDIM where its teacher takes two.

Salimans, Ho 2022 (arXiv 2202.00512), algorithm 2. In the coordinates here, ``x = x0 + σ ε``, a step
of DDIM from σ to ς is ``x ← r x + (1 − r) x̂(x, σ)`` with r = ς/σ. So two steps with r₁ and r₂ are
one step with r₁ r₂ and a clean picture between the teacher's two, which is the student's target (x̃
in the paper's appendix G).
"""

from __future__ import annotations

import torch
from torch import Tensor

from restore.diffusion.denoiser import Condition, Denoise, Denoiser, ModelConfig
from restore.training.losses import Terms
from restore.training.noise_levels import Draw
from restore.training.objective import Network, Objective
from restore.training.recipe_sections import ObjectiveRecipe
from restore.training.rounds import DistillationRecipe, Weighting


def distillation_target(
    teacher: Denoise,
    x: Tensor,
    sigma: Tensor,
    middle: Tensor,
    below: Tensor,
    condition: Condition | None = None,
) -> Tensor:
    """Return the clean picture with which one step of DDIM lands where the teacher's two do.

    ``x̃ = (x″ − (ς/σ) x)/(1 − ς/σ)``, where the teacher goes from x at σ over a level between to x″
    at ς. Written as a mean of the teacher's two estimates, with weights that sum to 1, it has no
    difference of large numbers; at the last step (ς = 0) it is the second estimate.

    Args:
        teacher: ``teacher(x, sigma, condition)``.
        x: [B, C, H, W] at σ.
        sigma, middle, below: Falling noise levels [B, 1, 1, 1]; ``below`` may be 0.
        condition: Condition for the teacher.

    Returns:
        [B, C, H, W].
    """
    first_ratio = middle / sigma
    second_ratio = below / middle
    first = teacher(x, sigma, condition).clean
    second = teacher(first_ratio * x + (1 - first_ratio) * first, middle, condition).clean
    fraction = (1 - second_ratio) / (1 - first_ratio * second_ratio)
    return torch.lerp(first, second, fraction)


def loss_weight(weighting: Weighting, sigma: Tensor) -> Tensor:
    """Return the weight of the clean picture's squared error at noise level σ.

    ``truncated-snr`` is max(1/σ², 1): the error of x0 or of ε, whichever is larger. ``snr+1`` is 1
    + 1/σ²: the error of v (arXiv 2202.00512, section 4).
    """
    snr = sigma**-2
    return snr.clamp_min(1) if weighting == "truncated-snr" else 1 + snr


class Distillation(Objective):
    """The objective of one round.

    A picture's level is one of the student's, all equally likely (algorithm 2: t = i/N). Pictures
    with and without a condition are treated alike. Those that a model with ``one_step = "zeros"``
    is shown as zeros keep the clean picture as their target, so that the model still restores in
    one step.

    Args:
        config: Description of the model.
        recipe: Recipe of the objective, of which ``noiseless_fraction`` counts.
        distillation: See `DistillationRecipe`.
        index: Number of the round, from 0.
        teacher: A `restore.diffusion.denoiser.Denoise`.
    """

    def __init__(
        self,
        config: ModelConfig,
        recipe: ObjectiveRecipe,
        distillation: DistillationRecipe,
        index: int,
        teacher: Denoise,
    ) -> None:
        super().__init__(config, recipe)
        self.teacher = teacher
        self.weighting = distillation.weighting
        self.grid = torch.tensor(distillation.grid(config, index), dtype=torch.float64)

    def draw(self, conditional: Tensor, generator: torch.Generator) -> Draw:
        """Draw as `Objective.draw`; ``step`` is a level's place in the student's grid, from 0."""
        count = len(conditional)
        step = torch.randint(len(self.grid) // 2, (count,), generator=generator)
        noiseless = conditional & (
            torch.rand(count, generator=generator) < self.recipe.noiseless_fraction
        )
        gamma = torch.where(noiseless, self.gammas[-1], 1 / (1 + self.grid[2 * step] ** 2)).float()
        return Draw(gamma, step, torch.ones(count), noiseless, noiseless)

    def terms(
        self, network: Network, clean: Tensor, condition: Condition, draw: Draw, noise: Tensor
    ) -> Terms:
        """Return weighted squared errors of the student's clean pictures; see `Objective.terms`."""
        noiseless = draw.noiseless[:, None, None, None]
        sigma, middle, below = (self._level(2 * draw.step + further) for further in range(3))
        x = torch.where(noiseless, 0.0, clean + sigma * noise)
        sigma = torch.where(noiseless, float(self.schedule.sigmas[-1]), sigma)
        shown = condition if self.config.backbone.condition_channels else None

        with torch.no_grad():
            said = distillation_target(self.teacher, x, sigma, middle, below, shown)
            target = torch.where(noiseless, clean, said)

        student = Denoiser(network, self.config)(x, sigma, shown).clean
        error = (student - target).square().mean(dim=(1, 2, 3))

        return Terms(loss_weight(self.weighting, sigma).flatten() * error, None)

    def _level(self, place: Tensor) -> Tensor:
        """Return the noise level at a place of the grid, float32 [B, 1, 1, 1]."""
        return self.grid.float().to(place.device)[place][:, None, None, None]
