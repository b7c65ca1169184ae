"""The loss of one network that is an unconditional prior and an SR3-style conditional model.

Coordinates are those of the networks: ``x_γ = √γ x0 + √(1−γ) ε`` with γ = ᾱ, pictures in [-1, 1].
Steps of the chain are counted as in the papers: t = 1 … T, γ_0 = 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from restore.diffusion.bound import gaussian_kl
from restore.diffusion.denoiser import Condition, ModelConfig, edm_scales
from restore.diffusion.schedule import NoiseSchedule
from restore.training.recipe import ObjectiveRecipe

Network = Callable[[Tensor, Tensor], Tensor]

# Uniform fraction of the loss-aware distribution, so that no step is ever left out and its weights
# stay bounded.
UNIFORM_FRACTION = 1e-3
# Added to the mean squared error, pictures in [-1, 1], before its logarithm: at 46 dB a picture is
# good enough, and those that are almost perfect do not outweigh all others.
LEAST_ERROR = 1e-4
# Number of bins of log σ of `LevelBalance`.
BALANCE_BINS = 20
# Factor by which a bin forgets with each loss.
BALANCE_MEMORY = 0.99


class Draw(NamedTuple):
    """Noise levels of a batch, all [B].

    Attributes:
        gamma: γ in (0, 1), float32.
        step: t in 1 … T with γ_t ≤ γ ≤ γ_{t−1}, int64.
        weight: Importance weight, float32: 1/(T p_t) if t was drawn with probability p_t instead of
            1/T, else 1.
        elsewhere: True if the level is from the conditional pictures' own distribution.
        noiseless: True if the noisy picture is replaced by zeros.
    """

    gamma: Tensor
    step: Tensor
    weight: Tensor
    elsewhere: Tensor
    noiseless: Tensor

    def part(self, rows: slice) -> Draw:
        return Draw(*(value[rows] for value in self))

    def to(self, device: torch.device) -> Draw:
        return Draw(*(value.to(device) for value in self))


class Terms(NamedTuple):
    """Losses of each picture, [B] in float32.

    Attributes:
        simple: Mean over channels and pixels of the squared or absolute error (L_simple).
        bound: L_t of the variational bound in bits per dimension, without gradient to the mean
            unless it is the objective; None if it takes no part.
        variance: Mean squared error of the predicted square of the noise, without gradient to the
            mean; None if the network predicts none.
    """

    simple: Tensor
    bound: Tensor | None
    variance: Tensor | None = None


class LossHistory:
    """The last losses of each step of the chain, for loss-aware importance sampling.

    Steps are drawn with p_t ∝ √E[L_t²] over the last n losses of each, uniformly until all have n
    (Improved DDPM: Nichol, Dhariwal 2021, arXiv 2102.09672, eq. 18), mixed with a small uniform
    fraction.
    """

    def __init__(self, steps: int, length: int) -> None:
        self.losses = torch.zeros(steps, length, dtype=torch.float64)
        self.counts = torch.zeros(steps, dtype=torch.int64)

    def probabilities(self) -> Tensor:
        """Return p_t for t = 1 … T, float64 [T], which sum to 1."""
        steps, length = self.losses.shape
        uniform = torch.full((steps,), 1 / steps, dtype=torch.float64)
        size = self.losses.square().mean(dim=1).sqrt()
        if bool((self.counts < length).any()) or not bool(size.any()):
            return uniform
        return (1 - UNIFORM_FRACTION) * size / size.sum() + UNIFORM_FRACTION * uniform

    def learn(self, step: Tensor, loss: Tensor) -> None:
        """Add the losses [B] (without importance weights) at the steps [B] in 1 … T."""
        length = self.losses.shape[1]
        for t, value in zip((step - 1).tolist(), loss.tolist(), strict=True):
            self.losses[t, self.counts[t] % length] = value
            self.counts[t] += 1


class LevelBalance:
    """Weights that equalise the loss over the noise levels: the inverse of its running mean there.

    Levels are put in `BALANCE_BINS` bins equal in log σ between the ends of the chain; conditional
    and unconditional pictures have their own means. The weight is (mean over all bins)/(mean of the
    bin) within [1/limit, limit], and 1 for bins without data.
    """

    def __init__(self, schedule: NoiseSchedule, limit: float) -> None:
        lowest, highest = schedule.log_sigmas[[0, -1]].tolist()
        self.edges = torch.linspace(lowest, highest, BALANCE_BINS + 1)[1:-1].double()
        self.limit = limit
        self.sums = torch.zeros(2, BALANCE_BINS, dtype=torch.float64)
        self.counts = torch.zeros(2, BALANCE_BINS, dtype=torch.float64)

    def weights(self, gamma: Tensor, conditional: Tensor) -> Tensor:
        """Return float32 [B] for levels γ [B] and bool [B], True for conditional pictures."""
        seen = self.counts > 0
        means = self.sums / self.counts.clamp_min(1e-12)
        typical = means[seen].mean() if bool(seen.any()) else means.new_tensor(1.0)
        table = (typical / means.clamp_min(1e-12)).clamp(1 / self.limit, self.limit)
        table[~seen] = 1
        return table[conditional.long(), self._bin(gamma)].float()

    def learn(self, gamma: Tensor, conditional: Tensor, loss: Tensor) -> None:
        """Add losses [B]; a bin forgets by a factor for each loss that falls in it."""
        index = conditional.long() * BALANCE_BINS + self._bin(gamma)
        hits = torch.bincount(index, minlength=2 * BALANCE_BINS).reshape(2, BALANCE_BINS)
        total = torch.bincount(index, loss.double(), minlength=2 * BALANCE_BINS).reshape(
            2, BALANCE_BINS
        )
        forget = BALANCE_MEMORY**hits
        self.sums = forget * self.sums + total
        self.counts = forget * self.counts + hits

    def _bin(self, gamma: Tensor) -> Tensor:
        gamma = gamma.double()
        return torch.bucketize(((1 - gamma) / gamma).clamp_min(1e-30).log() / 2, self.edges)


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
        sigma = _sigma(gamma)
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
        return edm_scales(_sigma(gamma), self.config.sigma_data)[2] * noisy / gamma.sqrt()

    def time_of(self, gamma: Tensor) -> Tensor:
        """Return the time input of the network for levels γ [B]."""
        if self.config.time == "sqrt_alphas_cumprod":
            return gamma.sqrt()
        if self.config.time == "log_sigma":
            return _sigma(gamma).log() / 4
        return self.schedule.time_at(_sigma(gamma))


def predictor_losses(answer: Tensor, clean: Tensor, kind: str) -> Tensor:
    """Return each picture's loss [B] for a predictor's answers.

    See `restore.training.recipe.PredictorRecipe`.
    """
    error = answer - clean
    if kind == "l1":
        return error.abs().mean(dim=(1, 2, 3))
    squared = error.square().mean(dim=(1, 2, 3))
    return squared if kind == "l2" else (squared + LEAST_ERROR).log()


def log_normal_levels(
    gammas: Tensor, mean: float, std: float, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw γ with log σ ~ N(mean, std²), truncated to the chain, and the step t of each.

    EDM (Karras et al. 2022, arXiv 2206.00364, table 1): ln σ ~ N(P_mean, P_std²) for x = x0 + σ ε.
    Its weight λ(σ) is 1 for edm-networks, and for v-networks, whose error is that of the clean
    estimate over √(1−γ) (σ_data = 1).

    Returns:
        γ float32 [count] in [γ_T, γ_1], t int64 [count] in 1 … T.
    """
    low, high = (((1 - gammas[end]) / gammas[end]).sqrt().log() for end in (1, -1))
    cdf = torch.special.ndtr((torch.stack([low, high]) - mean) / std)
    fraction = torch.rand(count, generator=generator, dtype=torch.float64)
    log_sigma = (mean + std * torch.special.ndtri(torch.lerp(cdf[0], cdf[1], fraction))).clamp(
        low, high
    )
    gamma = torch.sigmoid(-2 * log_sigma)
    step = torch.searchsorted(-gammas, -gamma).clamp(1, len(gammas) - 1)

    return gamma.float(), step


def log_uniform_levels(
    gammas: Tensor, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw γ with log σ uniform over the chain, and the step t of each.

    It is the importance sampling of the likelihood weighting, whose weight is then 1 (Song et al.
    2021, arXiv 2101.09258, section 5.1): p(t) ∝ g²/σ² dt = 2 d log σ.

    Returns:
        γ float32 [count] in [γ_T, γ_1], t int64 [count] in 1 … T.
    """
    low, high = (((1 - gammas[end]) / gammas[end]).sqrt().log() for end in (1, -1))
    fraction = torch.rand(count, generator=generator, dtype=torch.float64)
    gamma = torch.sigmoid(-2 * torch.lerp(low, high, fraction))
    step = torch.searchsorted(-gammas, -gamma).clamp(1, len(gammas) - 1)

    return gamma.float(), step


def log_uniform_weight(gammas: Tensor, gamma: Tensor, step: Tensor) -> Tensor:
    """Return the likelihood weighting of levels that are uniform in t, float32 [B].

    Song et al. 2021, arXiv 2101.09258, eq. 7: the weight λ = g² of the score's squared error is
    ``g²/σ² dt = 2 d log σ`` of the noise's, for any schedule. So the weight is the density of the
    uniform distribution of log σ between σ_1 and σ_T over that of SR3's levels, γ ~ U(γ_t, γ_{t−1})
    for a uniform t. Levels below σ_1, where the integral ends, have weight 0.

    Args:
        gammas: float64 [T + 1], γ_0 = 1.
        gamma: γ [B].
        step: t [B].
    """
    log_sigma = ((1 - gammas[1:]) / gammas[1:]).log() / 2
    length = log_sigma[-1] - log_sigma[0]
    gamma = gamma.double()
    own = (gammas[step - 1] - gammas[step]) * (len(gammas) - 1)
    weight = own / (2 * gamma * (1 - gamma) * length)
    return torch.where(step > 1, weight, 0.0).float()


def noise_error_weight(parameterization: str, gamma: Tensor, sigma_data: float = 0.5) -> Tensor:
    """Return the squared error of ε̂ over that of the network's output, [B]."""
    if parameterization == "epsilon":
        return torch.ones_like(gamma)
    if parameterization == "v":
        return gamma
    if parameterization == "x0":
        return gamma / (1 - gamma)

    sigma = _sigma(gamma)
    return (edm_scales(sigma, sigma_data)[1] / sigma).square()


def target(
    parameterization: str, clean: Tensor, noise: Tensor, gamma: Tensor, sigma_data: float = 0.5
) -> Tensor:
    """Return the network's target: ε, x0, v = √γ ε − √(1−γ) x0, or F = (x0 − c_skip x)/c_out.

    v: Salimans, Ho 2022, arXiv 2202.00512. F: EDM (Karras et al. 2022, arXiv 2206.00364, eq. 8),
    whose squared error has their weight λ(σ) = 1/c_out² for the error of the clean picture.
    """
    if parameterization == "epsilon":
        return noise
    if parameterization == "x0":
        return clean
    if parameterization == "v":
        return gamma.sqrt() * noise - (1 - gamma).sqrt() * clean

    sigma = _sigma(gamma)
    skip, out, _ = edm_scales(sigma, sigma_data)
    return (clean - skip * (clean + sigma * noise)) / out


def clean_estimate(
    parameterization: str, answer: Tensor, noisy: Tensor, gamma: Tensor, sigma_data: float = 0.5
) -> Tensor:
    """Return the estimate of x0 that follows from a network's output."""
    if parameterization == "epsilon":
        return (noisy - (1 - gamma).sqrt() * answer) / gamma.sqrt()
    if parameterization == "x0":
        return answer
    if parameterization == "v":
        return gamma.sqrt() * noisy - (1 - gamma).sqrt() * answer

    skip, out, _ = edm_scales(_sigma(gamma), sigma_data)
    return skip * noisy / gamma.sqrt() + out * answer


def _sigma(gamma: Tensor) -> Tensor:
    """Return σ = √((1−γ)/γ)."""
    return ((1 - gamma) / gamma).sqrt()


def variational_term(
    gammas: Tensor, clean: Tensor, noisy: Tensor, estimate: Tensor, variance: Tensor, step: Tensor
) -> Tensor:
    """Return L_t of the variational bound with the learned variance, [B] in bits per dimension.

    KL(q(x_{t−1} | x_t, x0) ‖ p_θ(x_{t−1} | x_t)) for t > 1, and −log p_θ(x0 | x_1) over the 256
    levels of a pixel for t = 1 (DDPM: Ho et al. 2020, arXiv 2006.11239, eq. 13), with p_θ =
    N(μ̃(x_t, estimate), Σ), log Σ = v log β_t + (1−v) log β̃_t (arXiv 2102.09672, eq. 4 to 6 and
    15).

    Args:
        gammas: float64 [T + 1], γ_0 = 1.
        clean, noisy, estimate: x0, x_t and the network's x0, [B, C, H, W].
        variance: The network's 2v − 1, [B, C, H, W].
        step: t [B].
    """
    beta, posterior, of_clean, of_noisy = (c.to(noisy) for c in _posterior(gammas, step.cpu()))
    fraction = (variance + 1) / 2
    log_variance = fraction * beta.log() + (1 - fraction) * posterior.log()
    true_mean = of_clean * clean + of_noisy * noisy
    mean = of_clean * estimate + of_noisy * noisy
    divergence = gaussian_kl(true_mean, posterior.log(), mean, log_variance)
    decoder = -discretised_log_likelihood(clean, mean, log_variance)
    nats = torch.where((step == 1)[:, None, None, None], decoder, divergence)

    return nats.mean(dim=(1, 2, 3)) / math.log(2)


def _posterior(gammas: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return β_t, β̃_t and the coefficients of x0 and x_t in μ̃_t, float64 [B, 1, 1, 1].

    See arXiv 2102.09672, eq. 9 and 10. β̃_1 is 0; as there, it is replaced by β̃_2 where its
    logarithm is needed.
    """
    now = gammas[step]
    before = gammas[step - 1]
    beta = 1 - now / before
    last = gammas[step.clamp_min(2)], gammas[step.clamp_min(2) - 1]
    posterior = (1 - last[1]) / (1 - last[0]) * (1 - last[0] / last[1])
    of_clean = before.sqrt() * beta / (1 - now)
    of_noisy = (1 - beta).sqrt() * (1 - before) / (1 - now)
    beta, posterior, of_clean, of_noisy = (
        c.reshape(-1, 1, 1, 1) for c in (beta, posterior, of_clean, of_noisy)
    )

    return beta, posterior, of_clean, of_noisy


def discretised_log_likelihood(clean: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the log-likelihood of 8-bit pixels in [-1, 1], in nats.

    It is the log of the mass of N(mean, exp log_variance) within 1/255 of ``clean``. The lowest and
    highest of the 256 levels take the tails (arXiv 2006.11239, eq. 13).
    """
    scale = (-0.5 * log_variance).exp()
    above = torch.where(clean > 0.999, math.inf, (clean - mean + 1 / 255) * scale)
    below = torch.where(clean < -0.999, -math.inf, (clean - mean - 1 / 255) * scale)
    mass = torch.special.ndtr(above) - torch.special.ndtr(below)
    return mass.clamp_min(1e-12).log()
