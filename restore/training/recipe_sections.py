"""The sections of a recipe, with their defaults and the limits of their numbers.

Their keys are checked where they are read, see `restore.training.sections`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from restore.errors import BadArgument
from restore.training.mixture import Mixture
from restore.training.pictures import Augmentation


def _setting(default: Any, low: float = -math.inf, high: float = math.inf) -> Any:
    """Return a field with a range [low, high], which also binds every number of a tuple."""
    return field(default=default, metadata={"range": (low, high)})


@dataclass(frozen=True)
class DataRecipe:
    """Training pictures.

    Attributes:
        crop: Side of the training crops in pixels.
        batch: Pictures a step, over all processes.
        unconditional_fraction: Fraction of the pictures without condition (for the prior).
        larger_crops: ``[from fraction of the run, side]``, rising; the batch then shrinks so that a
            step keeps its pixels.
        augmentation: See `restore.training.pictures.Augmentation`.
        degradations: See `restore.training.mixture.Mixture`.
    """

    crop: int = _setting(64, 8, 4096)
    batch: int = _setting(16, 1)
    unconditional_fraction: float = _setting(0.45, 0, 1)
    larger_crops: tuple[tuple[float, int], ...] = ()
    augmentation: Augmentation = field(default_factory=Augmentation)
    degradations: Mixture = field(default_factory=Mixture)

    def __post_init__(self) -> None:
        fractions = [0.0, *(s for s, _ in self.larger_crops)]
        sides = [self.crop, *(n for _, n in self.larger_crops)]
        if (
            any(not 0 < s < 1 for s in fractions[1:])
            or sorted(set(fractions)) != fractions
            or sorted(sides) != sides
        ):
            raise ValueError(
                "larger_crops must be pairs of a fraction in (0, 1) and a side, both rising, above "
                "crop"
            )

    def stage(self, progress: float) -> int:
        """Return the crop size at this fraction of the run: 0 for `crop`, 1 for the next, …"""
        return sum(progress >= fraction for fraction, _ in self.larger_crops)

    def size(self, stage: int) -> tuple[int, int]:
        """Return (crop, batch) of a stage."""
        if stage == 0:
            return self.crop, self.batch
        side = self.larger_crops[stage - 1][1]
        return side, max(1, round(self.batch * (self.crop / side) ** 2))


@dataclass(frozen=True)
class ObjectiveRecipe:
    """What is minimised; the terms are in `restore.training.losses`.

    Attributes:
        levels: Distribution of the noise levels; ``log-uniform`` is uniform in log σ.
        weighting: Weights of the noise levels: ``simple`` is L_simple, or L_hybrid for networks
            with a learned variance; ``bound`` is L_vlb, the variational bound alone, with the
            variance β_t if none is learned; ``likelihood`` weighs the score's error by g² (Song et
            al. 2021, arXiv 2101.09258).
        log_normal_mean: Mean of log σ, pictures in [-1, 1]; the default is EDM's.
        log_normal_std: Standard deviation of log σ; the default is EDM's.
        log_normal_uniform: Fraction of the pictures whose level is uniform over the chain all the
            same, so that none is left out.
        loss_aware_history: Losses that are kept for each step of the chain.
        high_fraction: Fraction of the conditional pictures that are sent to the last steps of the
            chain instead.
        high_from: Where these last steps begin, as a fraction of the chain.
        noiseless_fraction: Fraction of the conditional pictures that are shown at the highest level
            with zeros for the noisy picture: above 0 for models whose ``one_step`` is ``zeros``,
            and 0 for all others.
        loss: ``l2`` or ``l1``.
        balance: Divide by the running mean of the loss at that noise level, conditional or not.
        balance_limit: Largest such factor, and the inverse of the smallest.
        vlb_weight: λ of L_hybrid, for networks with a learned variance.
        variance_weight: Weight of the error of the squared noise, for models with
            ``noise_variance``; their authors train it apart, on a network that stays as it is.
    """

    levels: Literal["uniform", "log-normal", "loss-aware", "log-uniform"] = "log-normal"
    weighting: Literal["simple", "bound", "likelihood"] = "simple"
    log_normal_mean: float = _setting(-1.2, -20, 20)
    log_normal_std: float = _setting(1.2, 1e-3, 20)
    log_normal_uniform: float = _setting(0.2, 0, 1)
    loss_aware_history: int = _setting(10, 1, 1000)
    high_fraction: float = _setting(0.0, 0, 1)
    high_from: float = _setting(0.8, 0, 0.999)
    noiseless_fraction: float = _setting(0.3, 0, 1)
    loss: Literal["l1", "l2"] = "l2"
    balance: bool = False
    balance_limit: float = _setting(4.0, 1, 1e6)
    vlb_weight: float = _setting(0.001, 0, 1e6)
    variance_weight: float = _setting(0.1, 0, 1e6)

    def check_weighting(self, learned_variance: bool) -> None:
        """Check that the weighting goes with everything else.

        Raises:
            BadArgument: It does not.
        """
        if self.weighting == "simple":
            return

        suitable = {"bound": ("uniform", "loss-aware"), "likelihood": ("log-uniform", "uniform")}
        with_weighting = f"with weighting = {self.weighting!r}"
        if self.levels not in suitable[self.weighting]:
            raise BadArgument(
                f"[objective] levels = {self.levels!r}: must be "
                f"{' or '.join(suitable[self.weighting])} {with_weighting}"
            )
        if self.loss != "l2":
            raise BadArgument(f"[objective] loss = {self.loss!r}: must be 'l2' {with_weighting}")
        if self.balance:
            raise BadArgument(f"[objective] balance: must be false {with_weighting}")
        if self.high_fraction:
            raise BadArgument(f"[objective] high_fraction: must be 0 {with_weighting}")
        if self.weighting == "likelihood" and learned_variance:
            raise BadArgument(
                "[objective] weighting = 'likelihood': the model has a learned variance, which it "
                "does not train; use 'bound' or 'simple'"
            )


@dataclass(frozen=True)
class PredictorRecipe:
    """How a model's predictor learns, see `restore.diffusion.predictor`.

    Attributes:
        fraction: Fraction of the steps that train the predictor; the others train the denoiser.
            With 1 the denoiser keeps the weights that the run starts from, with 0 the predictor
            does. None is 0.5 for a predictor that starts with random weights, else 0.
        loss: ``log-mse``, the mean over the pictures of log(mean squared error), whose gradient is
            that of PSNR and in which easy and hard pictures count alike; ``l1`` or ``l2``.
        rate: Highest learning rate of the predictor.
    """

    fraction: float | None = _setting(None, 0, 1)
    loss: Literal["log-mse", "l1", "l2"] = "log-mse"
    rate: float = _setting(2e-3, 0, 10)

    def for_start(self, *, random: bool) -> PredictorRecipe:
        """Return the recipe with its fraction, for a run that begins.

        Args:
            random: True if the predictor has random weights.

        Raises:
            BadArgument: The predictor would stay random.
        """
        fraction = self.fraction
        if fraction is None:
            fraction = 0.5 if random else 0.0
        if random and not fraction:
            raise BadArgument(
                "[predictor] fraction = 0: the model's predictor would stay random; give a "
                "fraction above 0, or `init` from a model that has one"
            )
        return replace(self, fraction=fraction)


@dataclass(frozen=True)
class OptimiserRecipe:
    """The optimiser.

    Attributes:
        kind: ``adamw``, or ``muon`` for the hidden convolutions with AdamW for the rest.
        rate: Highest learning rate.
        betas: β₁ and β₂ of AdamW.
        weight_decay: Weight decay of every weight that is no bias and no norm.
        muon_momentum: Momentum of Muon.
        newton_schulz_steps: Newton-Schulz steps of Muon.
        gradient_norm: Gradients are scaled down to this norm; 0 leaves them.
    """

    kind: Literal["adamw", "muon"] = "muon"
    rate: float = _setting(1e-3, 0, 10)
    betas: tuple[float, float] = _setting((0.9, 0.99), 0, 0.999999)
    weight_decay: float = _setting(0.0, 0, 10)
    muon_momentum: float = _setting(0.95, 0, 0.9999)
    newton_schulz_steps: int = _setting(4, 1, 20)
    gradient_norm: float = _setting(1.0, 0)


@dataclass(frozen=True)
class ScheduleRecipe:
    """Length of the run, and schedule of the learning rate.

    Attributes:
        steps: Length of the run in steps; exclusive with ``minutes``.
        minutes: Length of the run in minutes.
        warmup_steps: Steps over which the rate rises linearly.
        cooldown: Last fraction of the run, over which the rate falls linearly to exactly zero.
    """

    steps: int | None = _setting(None, 1)
    minutes: float | None = _setting(None, 1e-3)
    warmup_steps: int = _setting(100, 0)
    cooldown: float = _setting(0.25, 0, 1)

    def __post_init__(self) -> None:
        if self.steps is not None and self.minutes is not None:
            raise ValueError("both steps and minutes are given; give one")

    def fraction_after(self, step: int, elapsed: float) -> float:
        """Return the fraction of the run that is over after steps and seconds of training."""
        if self.steps is not None:
            return min(step / self.steps, 1.0)

        assert self.minutes is not None  # a run has a length, see `Recipe.with_length`
        return min(elapsed / (60 * self.minutes), 1.0)

    @property
    def cooldown_start(self) -> float:
        """Start of the cool-down as a fraction of the run; infinite without a cool-down."""
        return 1 - self.cooldown if self.cooldown else math.inf


@dataclass(frozen=True)
class EmaRecipe:
    """Exponential moving averages of the weights.

    Attributes:
        decays: Decay of each average; the last one is the model, `--average` writes others.
        every: Steps between updates.
    """

    decays: tuple[float, ...] = _setting((0.997, 0.9997), 0, 0.9999999)
    every: int = _setting(8, 1, 1000)

    def __post_init__(self) -> None:
        if not self.decays or len(set(self.decays)) != len(self.decays):
            raise ValueError("decays must be one or more different numbers")


@dataclass(frozen=True)
class RunRecipe:
    """Settings of the machine, the log and the random numbers.

    Attributes:
        seed: Random seed for everything.
        mixed_precision: Convolutions in bfloat16 on devices that are faster with it.
        compile: Compile the network.
        workers: Processes that prepare the pictures, in each training process; 0 is a thread.
        data: Where the pictures are cropped and degraded: on the ``host``, or on the training
            ``device``, with the photographs in its memory; ``auto`` takes the device on CUDA, else
            the host. The two draw other pictures of the same distribution, see
            `restore.training.device_batches`.
        checkpoint_minutes: Minutes between checkpoints.
        log_steps: Steps between rows of the log.
    """

    seed: int = _setting(0, 0, 2**63 - 1)
    mixed_precision: bool = True
    compile: bool = False
    workers: int = _setting(0, 0, 256)
    data: Literal["auto", "host", "device"] = "auto"
    checkpoint_minutes: float = _setting(10.0, 0)
    log_steps: int = _setting(50, 1)
