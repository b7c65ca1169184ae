"""The variational bound of pictures of 8 bits, term by term, and the rates that follow from it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from restore.diffusion.protocol import Condition, Denoise, Prediction
from restore.diffusion.schedule import forward_variance, posterior_variance
from restore.diffusion.stepping import Callback, falling_pairs, noise_like, report
from restore.precision import single_precision

Variance = Literal["forward", "posterior", "learned"]

VARIANCES = ("forward", "posterior", "learned")
# Half the distance of neighbouring values of 8 bits in [-1, 1].
HALF_BIN = 1 / 255
# Most pixels in a call of the network.
PIXELS_AT_ONCE = 2**16


class Bound(NamedTuple):
    """The variational bound of pictures, in bits per dimension, float64 on the CPU.

    Steps are counted as in the papers, t = 1 … T, and listed from T down to 1.

    Attributes:
        sigmas: Noise level σ_t of each step, T of them, decreasing.
        prior: L_T, [B].
        terms: L_{t−1} for t = T … 2, and last L_0, the decoder's, [B, T].
        squared_errors: Mean squared error of the clean estimate at each step, pictures in [-1, 1],
            [B, T].
    """

    sigmas: tuple[float, ...]
    prior: Tensor
    terms: Tensor
    squared_errors: Tensor

    @property
    def total(self) -> Tensor:
        """The bound: L_T + Σ L_{t−1} + L_0, [B]."""
        return self.prior + self.terms.sum(1)

    @property
    def rates(self) -> Tensor:
        """Bits that a receiver of x_T … x_t has got, for t = T … 1, [B, T].

        Ho, Jain, Abbeel 2020, arXiv 2006.11239, section 4.3: x_T costs L_T, and every x_{t−1} that
        follows L_{t−1}.
        """
        sent = torch.cat([self.prior[:, None], self.terms[:, :-1]], dim=1)
        return sent.cumsum(1)

    @property
    def distortions(self) -> Tensor:
        """Root mean square error of the clean estimates, in 8-bit levels, [B, T]."""
        return self.squared_errors.sqrt() * 255 / 2


@single_precision()
def variational_bound(
    denoise: Denoise,
    pictures: Tensor,
    sigmas: Sequence[float],
    *,
    variance: Variance = "forward",
    progressive: bool = False,
    condition: Condition | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> Bound:
    """Estimate the variational bound on −log₂ p(x0), each term from one noisy picture.

    Ho, Jain, Abbeel 2020, arXiv 2006.11239, eq. 5, for pictures of 8 bits:

        L_T      = KL(q(x_T | x0) ‖ N(0, 1)), in variance-preserving coordinates,
        L_{t−1}  = KL(q(x_{t−1} | x_t, x0) ‖ p(x_{t−1} | x_t)),
        L_0      = −log p(x0 | x_1), over the 256 values of a pixel (their eq. 13).

    p(x_{t−1} | x_t) is the step of `restore.samplers.ancestral.ancestral`: the mean of
    q(x_{t−1} | x_t, x0) at the clean estimate, and the variance β̃_t, β_t or the learned one. As
    β̃_1 is 0, β̃_2 takes its place in L_0 (Nichol, Dhariwal 2021, arXiv 2102.09672, section 3.1).

    The estimate is unbiased for the bound, which no network can push below −log₂ p(x0), and whose
    mean over pictures is never below their entropy. ``sigmas`` may be any subset of a chain's
    levels, which is a shorter chain with a bound of its own.

    Args:
        denoise: ``denoise(x, sigma, condition)`` with pictures in [-1, 1].
        pictures: [B, C, H, W], values of 8 bits v as ``v/127.5 − 1``.
        sigmas: Decreasing noise levels and a final 0.
        variance: ``forward`` (β_t), ``posterior`` (β̃_t), or ``learned``, from
            `Prediction.variance_fraction`.
        progressive: Take the noisy pictures of one run of the chain, each drawn from the last one
            by q(x_{t−1} | x_t, x0), as a receiver gets them; else independent ones, whose sum
            varies less.
        condition: Shown to the network beside the noisy picture, for p(x | condition).
        generator: Random generator on the CPU.
        callback: Called with a `Step` after each level.

    Raises:
        ValueError: If ``sigmas`` do not decrease to 0, the variance is unknown, or it is not
            learned by the network.
    """
    if variance not in VARIANCES:
        raise ValueError(f"unknown variance {variance!r}; known are {', '.join(VARIANCES)}")

    pairs = falling_pairs(sigmas)
    prior = _bits(_prior_divergence(pictures.double().cpu(), pairs[0][0]))
    terms = []
    errors = []

    states = _noisy_pictures(pictures, sigmas, progressive, generator)
    predictions = _predictions(denoise, states, sigmas[:-1], len(pictures), condition)
    for index, (noisy, prediction) in enumerate(predictions):
        nats = _step_nats(pictures, noisy, prediction, pairs, index, variance)
        terms.append(_bits(nats))
        errors.append(_mean((prediction.clean - pictures).double().cpu().square()))
        report(callback, index, len(pairs), pairs[index][0], prediction.clean)

    levels = tuple(sigma for sigma, _ in pairs)

    return Bound(levels, prior, torch.stack(terms, dim=1), torch.stack(errors, dim=1))


@single_precision()
def progressive_estimates(
    denoise: Denoise,
    pictures: Tensor,
    sigmas: Sequence[float],
    indices: Sequence[int],
    *,
    condition: Condition | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the clean estimates of a receiver that has got x_T … x_t, for some steps.

    Ho, Jain, Abbeel 2020, arXiv 2006.11239, section 4.3. With a generator in the same state they
    are those of `variational_bound` with ``progressive``.

    Args:
        denoise, pictures, sigmas, condition, generator: As for `variational_bound`.
        indices: Steps as indices of ``sigmas``, rising.

    Returns:
        [B, number of indices, C, H, W] in about [-1, 1].
    """
    states = _noisy_pictures(pictures, sigmas, True, generator)
    chosen = (state for index, state in enumerate(states) if index in indices)
    levels = [sigmas[index] for index in indices]
    predictions = _predictions(denoise, chosen, levels, len(pictures), condition)
    return torch.stack([prediction.clean for _, prediction in predictions], dim=1)


def gaussian_kl(
    mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor
) -> Tensor:
    """Return the Kullback-Leibler divergence of each dimension, in nats.

    KL(N(mean, exp log_variance) ‖ N(other_mean, exp other_log_variance)).
    """
    ratio = log_variance - other_log_variance
    return 0.5 * (
        ratio.exp() - 1 - ratio + (mean - other_mean).square() * (-other_log_variance).exp()
    )


def decoder_nats(clean: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return −log p of 8-bit pixels in [-1, 1] under N(mean, exp log_variance), in nats.

    The mass of a value is that within 1/255 of it; 0 and 255 take the tails (arXiv 2006.11239, eq.
    13). It is exact far from the mean too, where the mass is too small for a number.
    """
    scale = (-0.5 * log_variance).exp()
    above = torch.where(clean > 0.999, math.inf, (clean - mean + HALF_BIN) * scale)
    below = torch.where(clean < -0.999, -math.inf, (clean - mean - HALF_BIN) * scale)

    # the mass between two points is that between their mirror images; below the mean the
    # logarithm of a tail is exact
    mirrored = below + above > 0
    upper = torch.special.log_ndtr(torch.where(mirrored, -below, above))
    lower = torch.special.log_ndtr(torch.where(mirrored, -above, below))

    return -(upper + torch.log(-torch.expm1(lower - upper)))


def _predictions(
    denoise: Denoise,
    states: Iterator[Tensor],
    levels: Sequence[float],
    count: int,
    condition: Condition | None,
) -> Iterator[tuple[Tensor, Prediction]]:
    """Yield noisy pictures and what the network says of them, several levels in a call.

    Args:
        denoise, condition: As for `variational_bound`.
        states: Noisy pictures [count, C, H, W] of each level.
        levels: Their noise levels.
        count: Number of pictures.
    """
    left = list(levels)
    first = next(states)
    states = chain([first], states)
    at_once = max(1, PIXELS_AT_ONCE // (count * first.shape[-2] * first.shape[-1]))

    while left:
        part, left = left[:at_once], left[at_once:]
        noisy = list(islice(states, len(part)))
        shown = (
            None
            if condition is None
            else Condition(*(tensor.repeat(len(part), 1, 1, 1) for tensor in condition))
        )
        repeated = torch.tensor(part, dtype=torch.float64).repeat_interleave(count)
        prediction = denoise(torch.cat(noisy), repeated.to(first.dtype), shown)
        for index, state in enumerate(noisy):
            own = slice(index * count, (index + 1) * count)
            fraction = prediction.variance_fraction
            yield (
                state,
                Prediction(
                    prediction.clean[own],
                    prediction.noise[own],
                    None if fraction is None else fraction[own],
                ),
            )


def _noisy_pictures(
    pictures: Tensor,
    sigmas: Sequence[float],
    progressive: bool,
    generator: torch.Generator | None,
) -> Iterator[Tensor]:
    """Yield x_T, …, x_1: independent of each other, or one run of the chain."""
    noise = sigmas[0] * noise_like(pictures, generator)
    yield pictures + noise

    for sigma, sigma_next in falling_pairs(sigmas)[:-1]:
        fresh = noise_like(pictures, generator)
        if progressive:
            spread = math.sqrt(posterior_variance(sigma, sigma_next))
            noise = (sigma_next / sigma) ** 2 * noise + spread * fresh
        else:
            noise = sigma_next * fresh
        yield pictures + noise


def _step_nats(
    pictures: Tensor,
    noisy: Tensor,
    prediction: Prediction,
    pairs: Sequence[tuple[float, float]],
    index: int,
    variance: Variance,
) -> Tensor:
    """L_{t−1} of the step, or L_0 of the last one, in nats of each dimension."""
    sigma, sigma_next = pairs[index]
    truth, x, clean = (t.double().cpu() for t in (pictures, noisy, prediction.clean))
    log_forward = math.log(forward_variance(sigma, sigma_next))
    log_posterior = _log_posterior(pairs, index, log_forward)
    fraction = _fraction(variance, prediction, truth)
    log_variance = fraction * log_forward + (1 - fraction) * log_posterior
    if sigma_next == 0:
        return decoder_nats(truth, clean, log_variance)

    ratio = (sigma_next / sigma) ** 2
    mean = truth + ratio * (x - truth)
    guess = clean + ratio * (x - clean)
    return gaussian_kl(mean, torch.full_like(truth, log_posterior), guess, log_variance)


def _log_posterior(pairs: Sequence[tuple[float, float]], index: int, log_forward: float) -> float:
    """log β̃_t; for t = 1 that of t = 2 at scale 1, or log β_1 if the chain has one step."""
    sigma, sigma_next = pairs[index]
    if sigma_next > 0:
        return math.log(posterior_variance(sigma, sigma_next))
    if index == 0:
        return log_forward
    above, _ = pairs[index - 1]
    return math.log(posterior_variance(above, sigma) / (1 + sigma**2))


def _fraction(variance: Variance, prediction: Prediction, like: Tensor) -> Tensor:
    """Where log Σ lies between log β̃_t (0) and log β_t (1), of every dimension."""
    if variance != "learned":
        return torch.full_like(like, float(variance == "forward"))
    if prediction.variance_fraction is None:
        raise ValueError("the network says nothing of its variance: it has not learned one")
    return prediction.variance_fraction.double().cpu()


def _prior_divergence(pictures: Tensor, sigma: float) -> Tensor:
    """KL(q(x_T | x0) ‖ N(0, 1)) of each dimension, for x_T = (x0 + σ ε)/√(1 + σ²), in nats."""
    scale = 1 / (1 + sigma**2)
    zero = torch.zeros_like(pictures)
    return gaussian_kl(
        pictures * math.sqrt(scale), torch.full_like(zero, math.log(sigma**2 * scale)), zero, zero
    )


def _mean(values: Tensor) -> Tensor:
    return values.flatten(1).mean(1)


def _bits(nats: Tensor) -> Tensor:
    """Mean over the dimensions, in bits: [B]."""
    return _mean(nats) / math.log(2)
