"""The loss of one network that is an unconditional prior and an SR3-style conditional model.

Coordinates are those of the networks: ``x_γ = √γ x0 + √(1−γ) ε`` with γ = ᾱ, pictures in [-1, 1].
Steps of the chain are counted as in the papers: t = 1 … T, γ_0 = 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import softplus

from restore.diffusion.denoiser import Condition, ModelConfig, edm_scales
from restore.diffusion.schedule import NoiseSchedule
from restore.training.losses import Terms, clean_estimate, sigma_of, target, variational_term
from restore.training.noise_levels import (
    Draw,
    LossHistory,
    log_normal_levels,
    log_uniform_levels,
)
from restore.training.recipe_sections import ObjectiveRecipe
from restore.training.weights import LevelBalance, log_uniform_weight, noise_error_weight

Network = Callable[[Tensor, Tensor], Tensor]


class Objective:
    """Noise levels, losses and the statistics of past losses.

    Args:
        config: Description of the model; its parameterisation and its backbone's
            ``learned_variance`` decide the targets.
        recipe: See `ObjectiveRecipe`.
    """

    def __init__(self, config: ModelConfig, recipe: ObjectiveRecipe) -> None:
        self.config = config
        self.recipe = recipe
        self.schedule = NoiseSchedule.named(**config.schedule)
        self.gammas = torch.cat(
            [torch.ones(1, dtype=torch.float64), torch.from_numpy(self.schedule.alphas_cumprod)]
        )
        self.history = LossHistory(len(self.schedule), recipe.loss_aware_history)
        self.balance = LevelBalance(self.schedule, recipe.balance_limit)

    @property
    def learned_variance(self) -> bool:
        """True if the network interpolates the variance as Improved DDPM's."""
        return self.config.backbone.learned_variance and self.config.noise_variance is None

    @property
    def discrete(self) -> bool:
        """True if levels are the chain's, at which alone the variational bound is defined."""
        return self.learned_variance or self.recipe.weighting == "bound"

    def draw(self, conditional: Tensor, generator: torch.Generator) -> Draw:
        """Draw noise levels for a batch.

        Args:
            conditional: True for pictures with a condition, bool [B].
            generator: Generator on the CPU.
        """
        count = len(conditional)
        recipe = self.recipe
        last = len(self.schedule)
        weight = torch.ones(count)
        if recipe.levels == "log-uniform":
            gamma, step = log_uniform_levels(self.gammas, count, generator)
            gamma = self.gammas[step].float() if self.discrete else gamma
        elif recipe.levels == "log-normal":
            gamma, step = log_normal_levels(
                self.gammas, recipe.log_normal_mean, recipe.log_normal_std, count, generator
            )
            gamma = self.gammas[step].float() if self.discrete else gamma
            even = torch.rand(count, generator=generator) < recipe.log_normal_uniform
            anywhere = torch.randint(1, last + 1, (count,), generator=generator)
            gamma = torch.where(even, self._within(anywhere, generator), gamma)
            step = torch.where(even, anywhere, step)
        else:
            step = torch.randint(1, last + 1, (count,), generator=generator)
            if recipe.levels == "loss-aware":
                p = self.history.probabilities()
                step = torch.multinomial(p, count, replacement=True, generator=generator) + 1
                weight = (1 / (last * p[step - 1])).float()
            gamma = self._within(step, generator)
            if recipe.weighting == "likelihood":
                weight = log_uniform_weight(self.gammas, gamma, step)

        elsewhere, high = self._high(conditional, generator)
        gamma = torch.where(elsewhere, self._within(high, generator), gamma)
        noiseless = conditional & (
            torch.rand(count, generator=generator) < recipe.noiseless_fraction
        )
        step = torch.where(elsewhere, high, step)
        gamma[noiseless] = self.gammas[-1].float()
        step[noiseless] = last
        elsewhere = elsewhere | noiseless

        return Draw(gamma, step, torch.where(elsewhere, 1.0, weight), elsewhere, noiseless)

    def terms(
        self, network: Network, clean: Tensor, condition: Condition, draw: Draw, noise: Tensor
    ) -> Terms:
        """Compute the losses of each picture.

        Args:
            network: ``network(x, time)``, as `Backbone`.
            clean: x0 [B, C, H, W] in [-1, 1].
            condition: Zero where the network is the prior.
            draw: Noise levels, on the device of ``clean``.
            noise: White noise ε [B, C, H, W].
        """
        shown = (~draw.noiseless)[:, None, None, None]
        gamma = draw.gamma[:, None, None, None]
        if self.config.bridge is not None:
            noise = self._of_bridge(clean, condition.picture, gamma, noise)
        noise = noise * shown
        noisy = (gamma.sqrt() * clean + (1 - gamma).sqrt() * noise) * shown
        seen = self._scaled(noisy, gamma)
        output = network(self._input(seen, condition), self.time_of(draw.gamma)).float()
        answer, variance = (
            output.split(clean.shape[1], dim=1)
            if self.config.backbone.learned_variance
            else (output, None)
        )
        if self.config.condition_skip:
            answer = answer - (1 - gamma).sqrt() * condition.picture

        error = answer - target(
            self.config.parameterization, clean, noise, gamma, self.config.sigma_data
        )
        simple = (error.square() if self.recipe.loss == "l2" else error.abs()).mean(dim=(1, 2, 3))
        if self.recipe.weighting == "likelihood":
            in_noise = noise_error_weight(
                self.config.parameterization, draw.gamma, self.config.sigma_data
            )
            return Terms(simple * torch.where(draw.noiseless, 1.0, in_noise), None)
        if self.config.noise_variance is not None:
            assert variance is not None
            return Terms(simple, None, self._variance_term(answer, variance, noisy, noise, gamma))
        if not self.discrete:
            return Terms(simple, None)

        alone = self.recipe.weighting == "bound"
        estimate = clean_estimate(
            self.config.parameterization,
            answer if alone else answer.detach(),
            noisy,
            gamma,
            self.config.sigma_data,
        )
        if variance is None:
            variance = torch.ones_like(answer)  # β_t
        bound = variational_term(self.gammas, clean, noisy, estimate, variance, draw.step)
        # pictures that are no step of the chain have L_simple, which `total` multiplies by T
        otherwise = simple / len(self.schedule) if alone else torch.zeros_like(simple)

        return Terms(simple, torch.where(draw.noiseless, otherwise, bound))

    def total(self, terms: Terms) -> Tensor:
        """Return each picture's loss [B], without weights.

        It is L_simple or, with a learned variance, L_hybrid = L_simple + λ L_vlb with L_vlb = Σ_t
        L_t, of which T L_t for a random t is an unbiased estimate (arXiv 2102.09672, eq. 16; λ =
        0.001 there, L_vlb in bits per dimension here). With ``weighting = "bound"`` it is L_vlb.
        A network that predicts the square of the noise adds the error of that.
        """
        if terms.variance is not None:
            return terms.simple + self.recipe.variance_weight * terms.variance
        if terms.bound is None:
            return terms.simple
        if self.recipe.weighting == "bound":
            return len(self.schedule) * terms.bound
        return terms.simple + self.recipe.vlb_weight * len(self.schedule) * terms.bound

    def weights(self, draw: Draw, conditional: Tensor) -> Tensor:
        """Return the weight of each picture's loss, float32 [B]; all arguments on the CPU."""
        return (
            draw.weight * self.balance.weights(draw.gamma, conditional)
            if self.recipe.balance
            else draw.weight
        )

    def learn(self, draw: Draw, conditional: Tensor, loss: Tensor) -> None:
        """Add the losses [B] of a batch, without weights; all arguments on the CPU."""
        if self.recipe.balance:
            self.balance.learn(draw.gamma, conditional, loss)
        if self.recipe.levels == "loss-aware":
            own = ~draw.elsewhere
            self.history.learn(draw.step[own], loss[own])

    def state(self) -> dict[str, Tensor]:
        """Return the statistics that a resumed run needs."""
        return {
            "history.losses": self.history.losses,
            "history.counts": self.history.counts,
            "balance.sums": self.balance.sums,
            "balance.counts": self.balance.counts,
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the statistics; the inverse of `state`."""
        self.history.losses = state["history.losses"]
        self.history.counts = state["history.counts"]
        self.balance.sums = state["balance.sums"]
        self.balance.counts = state["balance.counts"]

    def _within(self, step: Tensor, generator: torch.Generator) -> Tensor:
        """Draw γ ~ U(γ_t, γ_{t−1}), or return γ_t if the levels are the chain's: float32.

        SR3: Saharia et al. 2021, arXiv 2104.07636, section 2.4.
        """
        fraction = torch.rand(len(step), generator=generator, dtype=torch.float64)
        if self.discrete:
            return self.gammas[step].float()
        return torch.lerp(self.gammas[step], self.gammas[step - 1], fraction).float()

    def _high(self, conditional: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw which pictures go to high noise levels (bool), and their steps.

        The steps are uniform over the last ones of the chain.
        """
        last = len(self.schedule)
        count = len(conditional)
        first = min(math.floor(self.recipe.high_from * last) + 1, last)
        chosen = conditional & (torch.rand(count, generator=generator) < self.recipe.high_fraction)
        return chosen, torch.randint(first, last + 1, (count,), generator=generator)

    def _variance_term(
        self, answer: Tensor, second: Tensor, noisy: Tensor, noise: Tensor, gamma: Tensor
    ) -> Tensor:
        """Return the error of the predicted squares, [B], which trains the second output alone.

        They are (ε − ε̂)² for ``npr`` and ε² for ``sn``, whose expectations given x are the
        minimisers (Bao et al. 2022, arXiv 2206.07309, section 3).
        """
        squared = noise**2
        if self.config.noise_variance == "npr":
            config = self.config
            estimate = clean_estimate(
                config.parameterization, answer.detach(), noisy, gamma, config.sigma_data
            )
            of_noise = (noisy - gamma.sqrt() * estimate) / (1 - gamma).sqrt()
            squared = (noise - of_noise) ** 2
        return (softplus(second) - squared).square().mean(dim=(1, 2, 3))

    def _of_bridge(self, clean: Tensor, degraded: Tensor, gamma: Tensor, noise: Tensor) -> Tensor:
        """Return (x_σ − x0)/σ for a state of the bridge from x0 to the degraded picture x1.

        ``x_σ ~ N(x0 + σ²/σ_T² (x1 − x0), σ² (1 − σ²/σ_T²))``; without noise for the OT-ODE (I²SB:
        Liu et al. 2023, arXiv 2302.05872, eq. 11 and 12, where σ² + σ̄² is σ_T² here).
        """
        sigma = sigma_of(gamma)
        highest = float(self.schedule.sigmas[-1])
        way = sigma / highest**2 * (degraded - clean)
        if self.config.bridge == "ot-ode":
            return way
        return way + (1 - (sigma / highest) ** 2).clamp_min(0).sqrt() * noise

    def _input(self, noisy: Tensor, condition: Condition) -> Tensor:
        backbone = self.config.backbone
        parts = [noisy]
        parts += [condition.picture] if backbone.condition_channels else []
        parts += [condition.known] if backbone.condition_map else []
        return torch.cat(parts, dim=1)

    def _scaled(self, noisy: Tensor, gamma: Tensor) -> Tensor:
        """Return noisy pictures as the network sees them: x_γ, or EDM's c_in x."""
        if self.config.parameterization != "edm":
            return noisy
        return edm_scales(sigma_of(gamma), self.config.sigma_data)[2] * noisy / gamma.sqrt()

    def time_of(self, gamma: Tensor) -> Tensor:
        """Return the time input of the network for levels γ [B]."""
        if self.config.time == "sqrt_alphas_cumprod":
            return gamma.sqrt()
        if self.config.time == "log_sigma":
            return sigma_of(gamma).log() / 4
        return self.schedule.time_at(sigma_of(gamma))
