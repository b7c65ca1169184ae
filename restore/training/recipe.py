"""A recipe: everything that decides what a training run learns, as TOML and as dataclasses.

Keys are checked where they are read: an unknown one, one of the wrong type and one with an
impossible value are each refused with the file, the section and the key. What a recipe leaves out
has the defaults below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from functools import cache
from typing import Any, Literal

import pretrained
from pretrained.classifier_description import ClassifierConfig
from pretrained.tables import read_json
from restore.backbone import build_backbone
from restore.diffusion.denoiser import ModelConfig
from restore.diffusion.schedule import NoiseSchedule
from restore.errors import BadArgument
from restore.training.batches import PredictorData
from restore.training.classifier_recipe import ClassifierRecipe
from restore.training.mixture import Mixture
from restore.training.pictures import Augmentation
from restore.training.rounds import DistillationRecipe
from restore.training.sections import section_of


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
        decays: Decay of each average; the last one is exported.
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


@dataclass(frozen=True)
class Recipe:
    """All settings of a run.

    Attributes:
        model: Description of the model; None takes that of ``--init`` or of the default model.
        data: Training pictures.
        objective: What is minimised; a distillation uses ``noiseless_fraction`` alone.
        optimiser: The optimiser.
        schedule: Length and learning rate.
        ema: Averages of the weights.
        run: Settings of the machine, the log and the random numbers.
        distillation: Rounds of a distillation; None if the run does not distil.
        predictor: How the predictor learns.
        classifier: The classifier of noisy pictures that is trained instead of a model; None if
            the run trains a model.
    """

    model: ModelConfig | None = None
    data: DataRecipe = field(default_factory=DataRecipe)
    objective: ObjectiveRecipe = field(default_factory=ObjectiveRecipe)
    optimiser: OptimiserRecipe = field(default_factory=OptimiserRecipe)
    schedule: ScheduleRecipe = field(default_factory=ScheduleRecipe)
    ema: EmaRecipe = field(default_factory=EmaRecipe)
    run: RunRecipe = field(default_factory=RunRecipe)
    distillation: DistillationRecipe | None = None
    predictor: PredictorRecipe = field(default_factory=PredictorRecipe)
    classifier: ClassifierRecipe | None = None

    def with_length(self, steps: int | None, minutes: float | None) -> Recipe:
        """Return the recipe with another length, if one is given.

        Raises:
            BadArgument: Two lengths are given, or none here either.
        """
        if steps is not None and minutes is not None:
            raise BadArgument("both `steps` and `minutes`; give one")

        schedule = self.schedule
        if steps is not None or minutes is not None:
            table = {**asdict(schedule), "steps": steps, "minutes": minutes}
            schedule = section_of(
                ScheduleRecipe,
                {k: v for k, v in table.items() if v is not None},
                "schedule",
                "length",
            )

        if schedule.steps is None and schedule.minutes is None:
            raise BadArgument(
                "how long to train: pass `minutes` or `steps`, or set one in the recipe's "
                "[schedule]"
            )

        return replace(self, schedule=schedule)

    def check(self) -> None:
        """Check that model, crops and objective fit together.

        Raises:
            BadArgument: They do not.
        """
        model = self.model or default_model()
        _check_model(model)
        self._check_data(model)
        if bool(self.objective.noiseless_fraction) != (model.one_step == "zeros"):
            wanted = "above 0" if model.one_step == "zeros" else "0"
            raise BadArgument(
                f"[objective] noiseless_fraction: must be {wanted} for a model whose one_step is "
                f"{model.one_step!r}"
            )

        self.objective.check_weighting(model.backbone.learned_variance)
        if model.noise_variance is not None and self.objective.weighting != "simple":
            raise BadArgument(
                f"[objective] weighting = {self.objective.weighting!r}: must be 'simple' for a "
                "model with a noise_variance"
            )
        if self.classifier is not None:
            self._check_classifier(self.classifier, model)
        self._check_predictor(model)
        self._check_labels(model)
        self._check_bridge(model)
        if self.distillation is not None:
            self._check_distillation(self.distillation, model)

    @property
    def classifier_config(self) -> ClassifierConfig | None:
        """Description of the classifier that is trained, or None."""
        if self.classifier is None:
            return None
        return self.classifier.config(self.model or default_model(), self.data.crop)

    def description(self, index: int) -> ModelConfig | ClassifierConfig:
        """Return what is written beside the exported weights, see `exported_model`."""
        return self.classifier_config or self.exported_model(index)

    @property
    def predictor_data(self) -> PredictorData | None:
        """The part of the predictor in the batches; None if it takes no part in the run."""
        model = self.model or default_model()
        conditions = model.condition_picture == "predicted"
        if model.predictor is None or not (self.predictor.fraction or conditions):
            return None
        return PredictorData(model.predictor.shown, self.predictor.fraction or 0.0, conditions)

    def exported_model(self, index: int) -> ModelConfig:
        """Return the description of the exported weights, of this round in a distillation."""
        model = self.model or default_model()
        if self.distillation is None:
            return model
        return replace(model, distilled_levels=self.distillation.student_levels(model, index))

    def _check_data(self, model: ModelConfig) -> None:
        backbone = model.backbone
        for stage in range(len(self.data.larger_crops) + 1):
            crop, _ = self.data.size(stage)
            if crop % backbone.size_multiple:
                raise BadArgument(
                    f"[data] crop {crop}: must be a multiple of {backbone.size_multiple} for this "
                    "model"
                )
            if model.size not in (None, crop):
                raise BadArgument(
                    f"[data] crop {crop}: must be {model.size}, the model's only size, throughout"
                )

    def _check_bridge(self, model: ModelConfig) -> None:
        if model.bridge is None:
            return

        begins = "a bridge begins at a degraded picture"
        if self.data.unconditional_fraction:
            raise BadArgument(f"[data] unconditional_fraction: must be 0: {begins}")
        if self.objective.weighting != "simple" or model.backbone.learned_variance:
            raise BadArgument(
                f"[objective] weighting: must be 'simple', without a learned variance: {begins}, "
                "and has no variational bound"
            )
        if self.distillation is not None:
            raise BadArgument(f"[distillation]: {begins}, and only noise is distilled")
        if model.predictor is not None:
            raise BadArgument(f"[model.predictor]: {begins}, and takes no prediction")

    def _check_classifier(self, classifier: ClassifierRecipe, model: ModelConfig) -> None:
        beside = "the recipe has a [classifier], which "
        if (model.parameterization, model.time) != ("epsilon", "step") or model.bridge is not None:
            raise BadArgument(f"[model]: {beside}needs parameterization = epsilon and time = step")
        if self.distillation is not None:
            raise BadArgument(f"[distillation]: {beside}is not distilled")
        if self.data.degradations != Mixture():
            raise BadArgument(f"[data.degradations]: {beside}sees noise alone")
        if self.data.larger_crops and classifier.pool == "attention":
            raise BadArgument(f"[data] larger_crops: {beside}has an attention pool, for one size")
        if self.run.data == "device":
            raise BadArgument(f"[run] data = 'device': {beside}takes its pictures from the host")

        own = ("levels", "loss_aware_history", "log_normal_mean", "log_normal_std")
        used = {name: getattr(self.objective, name) for name in (*own, "log_normal_uniform")}
        plain = ObjectiveRecipe(noiseless_fraction=self.objective.noiseless_fraction, **used)
        if unused := differences(plain, self.objective):
            keys = ", ".join(text.split(":")[0] for text in unused)
            raise BadArgument(f"[objective] {keys}: {beside}learns by cross-entropy; leave it out")

        # the folders name the classes later
        named = replace(classifier, names=classifier.names or ("one", "other"))
        named.config(model, self.data.crop)

    def _check_labels(self, model: ModelConfig) -> None:
        backbone = model.backbone
        unconditional = not backbone.condition_channels and model.bridge is None
        if unconditional and self.data.unconditional_fraction < 1:
            raise BadArgument(
                "[data] unconditional_fraction: must be 1 for a model without condition_channels, "
                "which sees no condition"
            )
        if backbone.classes:
            raise BadArgument(
                "[model.backbone] classes: must be 0; a folder of photographs has no labels to "
                "learn"
            )

    def _check_predictor(self, model: ModelConfig) -> None:
        if model.predictor is None:
            own = replace(self.predictor, fraction=self.predictor.fraction or None)
            if unused := differences(PredictorRecipe(), own):
                keys = ", ".join(text.split(":")[0] for text in unused)
                raise BadArgument(
                    f"[predictor] {keys}: the model has no predictor to train; describe one in "
                    "[model.predictor], or leave [predictor] out"
                )
            return

        try:
            with _meta():
                build_backbone(model.predictor.backbone)
        except (ValueError, TypeError, ZeroDivisionError) as error:
            raise BadArgument(f"[model.predictor]: {error}") from None

        if not model.backbone.condition_channels:
            raise BadArgument(
                "[model.predictor]: [model.backbone] needs condition_channels beside a predictor"
            )
        if self.distillation is not None and self.predictor.fraction:
            raise BadArgument(
                f"[predictor] fraction = {self.predictor.fraction:g}: a distillation trains the "
                "denoiser alone; use 0"
            )

    def _check_distillation(self, distillation: DistillationRecipe, model: ModelConfig) -> None:
        if model.parameterization == "epsilon":
            raise BadArgument(
                "[distillation]: the model is an epsilon-network, in whose picture x − σ ε an "
                "error of ε counts σ times. Of few steps each begins at a large σ, so a v- or "
                "x0-network is needed"
            )
        if model.backbone.learned_variance:
            raise BadArgument(
                "[distillation]: the model has a learned variance, which DDIM does not use; it "
                "would be lost"
            )

        unused = differences(
            ObjectiveRecipe(noiseless_fraction=self.objective.noiseless_fraction), self.objective
        )
        if unused:
            keys = ", ".join(text.split(":")[0] for text in unused)
            raise BadArgument(
                f"[objective] {keys}: not used in a distillation, which has its own loss; leave it "
                "out"
            )

        try:
            distillation.grid(model, 0)
        except ValueError as error:
            raise BadArgument(f"[distillation]: {error}") from None

        if self.schedule.steps is not None and self.schedule.steps * distillation.shortest < 1:
            raise BadArgument(
                f"[schedule] steps = {self.schedule.steps}: less than one for the shortest round"
            )


# Backbone of a predictor that a recipe describes by ``[model.predictor]`` alone.
PREDICTOR_BACKBONE: Mapping[str, Any] = {
    "layout": "lean",
    "condition_channels": 3,
    "condition_map": True,
    "noise_map": True,
    "noisy_input": False,
    "times": 2,
    "channels": 48,
    "channel_multipliers": (1, 2, 3),
    "blocks": 1,
    "middle_attention": False,
    "norm": "rms",
    "norm_eps": 1e-6,
    "patch": 2,
}


def _check_model(model: ModelConfig) -> None:
    try:
        NoiseSchedule.named(**model.schedule)
        with _meta():
            build_backbone(model.backbone)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise BadArgument(f"[model]: {error}") from None

    if model.parameterization == "flow":
        raise BadArgument(
            "[model] parameterization = flow: is for third-party networks; v differs from it by "
            "the scale of the noisy picture"
        )
    if model.time_scale != 1:
        raise BadArgument(
            "[model] time_scale: must be 1; scaled steps are for third-party networks"
        )


def _meta() -> Any:
    import torch

    return torch.device("meta")


@cache
def default_model() -> ModelConfig:
    """Return the description of the default model."""
    path = pretrained.checkpoint_path("default").with_suffix(".json")
    table = read_json(path)
    return ModelConfig.from_dict({key: value for key, value in table.items() if key != "sha256"})


def differences(one: Any, other: Any, at: str = "") -> list[str]:
    """Return the keys in which two recipes or model descriptions differ, with both values.

    For example ``["optimiser.rate: 1 | 2"]``.
    """
    one, other = (
        asdict(x) if is_dataclass(x) and not isinstance(x, type) else x for x in (one, other)
    )
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = [*one, *(k for k in other if k not in one)]
        return [
            d for k in keys for d in differences(one.get(k), other.get(k), f"{at}.{k}" if at else k)
        ]

    return [] if _plain(one) == _plain(other) else [f"{at}: {_plain(one)} | {_plain(other)}"]


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value
