"""Description of a checkpoint: the fields of the JSON file beside its weights.

A description says everything about a model that its tensors do not: the architecture of its
networks, the noise schedule and what the output means. The dataclasses here are the file format;
`restore.backbone.build_backbone` and `restore.diffusion.denoiser.build_denoiser` make networks of
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

BackboneLayout = Literal["adm", "ddpm++", "lean"]
QkvOrder = Literal["legacy", "new"]
Norm = Literal["group", "rms"]
DownsamplePadding = Literal["both", "end"]

Parameterization = Literal["epsilon", "v", "x0", "edm", "flow"]
TimeInput = Literal["step", "sqrt_alphas_cumprod", "log_sigma"]
OneStep = Literal["noise", "zeros"]
Resampling = Literal["bicubic", "bilinear", "pil-bicubic"]
ConditionPicture = Literal["degraded", "predicted"]
Bridge = Literal["brownian", "ot-ode"]
NoiseVariance = Literal["npr", "sn"]
Shown = Literal["deblurred", "inverse", "degraded"]
SHOWN: tuple[Shown, ...] = get_args(Shown)


@dataclass(frozen=True)
class BackboneConfig:
    """Architecture of a network.

    The lean layout has no attention, ``scale_shift_norm``, ``resblock_updown``, ``dropout``,
    ``embedding_activation``, ``qkv_bias`` or ``downsample_padding``. Residual blocks of the ddpm++
    layout always change the resolution.

    Attributes:
        layout: ``adm``, the U-Net of ADM; ``ddpm++``, see `restore.backbone.ddpmpp`; or ``lean``,
            see `restore.backbone.lean`.
        image_channels: Channels of the noisy picture.
        condition_channels: Channels of the condition picture beside it; 0 for an unconditional
            network.
        condition_map: One more input channel marks the known pixels of the condition.
        learned_variance: Twice the output channels; the second half interpolates the variance.
        channels: Base width, which the multipliers multiply.
        channel_multipliers: One per level, from full resolution down.
        blocks: Residual blocks per level of the encoder; the decoder has one more, except in the
            lean layout.
        attention_factors: Downsampling factors at which attention follows the residual blocks;
            ADM's "attention at 32, 16, 8" for 256 pixels is (8, 16, 32). In the decoder of the
            ddpm++ layout, attention follows only the last block of a level.
        middle_attention: Attention between the two middle blocks.
        heads: Number of attention heads.
        head_channels: Channels per attention head; overrides ``heads``.
        qkv_order: ``legacy`` groups q, k and v within each head, ``new`` groups the heads within
            each of q, k and v. The weights of both have the same shapes.
        norm: ``group`` (GroupNorm) or ``rms`` (over the channels of each pixel, and so local).
        norm_eps: Added to the variance.
        scale_shift_norm: The time embedding scales and shifts the second norm instead of being
            added to its input.
        resblock_updown: Residual blocks change the resolution, instead of strided and upsampling
            convolutions.
        classes: Number of class labels; 0 for none.
        dropout: Dropout probability in residual blocks.
        norm_groups: Groups of GroupNorm.
        embedding_endpoint: The frequencies of the time embedding fall to 1/10000 itself, as in
            DDPM, instead of ending just above it.
        embedding_width: Channels of the time embedding that the blocks see; None is
            ``4 · channels``.
        embedding_activation: SiLU before every block's projection of the time embedding.
        qkv_bias: The projection to queries, keys and values has a bias.
        downsample_padding: Strided convolutions pad with zeros on ``both`` sides or, as in DDPM,
            only at the ``end`` (below and right).
        patch: The input is pixel-unshuffled in patches of ``patch × patch``, the output shuffled
            back.
        noise_map: One more input channel holds the noise level of the measurement (predictors).
        noisy_input: The noisy picture is an input; predictors see only their condition.
        times: How many scalars the time embedding encodes: 1, the time of the noisy picture, or 2
            for predictors, see `restore.diffusion.predictor`.

    Raises:
        ValueError: A field is not one of its options, or ``times`` does not fit the channels.
    """

    layout: BackboneLayout = "adm"
    image_channels: int = 3
    condition_channels: int = 0
    condition_map: bool = False
    learned_variance: bool = False
    channels: int = 128
    channel_multipliers: tuple[float, ...] = (1, 2, 2, 2)
    blocks: int = 2
    attention_factors: tuple[int, ...] = ()
    middle_attention: bool = True
    heads: int = 1
    head_channels: int | None = None
    qkv_order: QkvOrder = "legacy"
    norm: Norm = "group"
    norm_eps: float = 1e-5
    scale_shift_norm: bool = True
    resblock_updown: bool = False
    classes: int = 0
    dropout: float = 0.0
    norm_groups: int = 32
    embedding_endpoint: bool = False
    embedding_width: int | None = None
    embedding_activation: bool = True
    qkv_bias: bool = True
    downsample_padding: DownsamplePadding = "both"
    patch: int = 1
    noise_map: bool = False
    noisy_input: bool = True
    times: int = 1

    def __post_init__(self) -> None:
        _check_option("layout", self.layout, BackboneLayout)
        _check_option("qkv_order", self.qkv_order, QkvOrder)
        _check_option("norm", self.norm, Norm)
        _check_option("downsample_padding", self.downsample_padding, DownsamplePadding)

        if self.times < 1 or (self.times > 1 and self.channels % (2 * self.times)):
            raise ValueError(
                f"times must be at least 1 and divide half of the {self.channels} channels: "
                f"{self.times}"
            )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BackboneConfig:
        """Invert `dataclasses.asdict`, also after a round trip through JSON.

        Raises:
            TypeError: Unknown or missing keys.
        """
        return cls(**_with_tuples(data))

    @property
    def in_channels(self) -> int:
        """Channels of all inputs together."""
        noisy = self.image_channels if self.noisy_input else 0
        return noisy + self.condition_channels + int(self.condition_map) + int(self.noise_map)

    @property
    def out_channels(self) -> int:
        """Channels of the output, with those of a learned variance."""
        return self.image_channels * (2 if self.learned_variance else 1)

    @property
    def size_multiple(self) -> int:
        """Number of pixels that height and width must be multiples of."""
        multiple: int = self.patch * 2 ** (len(self.channel_multipliers) - 1)
        return multiple

    @property
    def widths(self) -> list[int]:
        """Channels of each level, from full resolution down."""
        return [int(self.channels * m) for m in self.channel_multipliers]

    @property
    def embedding_channels(self) -> int:
        """Channels of the time embedding that the blocks see."""
        return self.embedding_width or 4 * self.channels


# What every predictor's backbone has.
_PREDICTOR_BACKBONE: Mapping[str, Any] = {
    "noisy_input": False,
    "times": 2,
    "noise_map": True,
    "condition_map": True,
    "image_channels": 3,
    "condition_channels": 3,
    "learned_variance": False,
    "classes": 0,
    "dropout": 0,
}


@dataclass(frozen=True)
class PredictorConfig:
    """Description of a predictor, part of a `ModelConfig`.

    Attributes:
        backbone: The network: no noisy input, a condition of 3 channels with its two maps, and two
            ``times``, the noise level and the known fraction, by which every block scales and
            shifts its features.
        shown: What the network sees: ``inverse``, the operator's inverse applied to the
            measurement, see `restore.diffusion.evidence`; ``degraded``, the degraded picture at
            full size, enlarged bicubically or blurred; or ``deblurred``, the inverse of blurs and
            bicubic enlargement otherwise (measured in docs/training.md).

    Raises:
        ValueError: The backbone is not a predictor's, or ``shown`` is not one of its options.
    """

    backbone: BackboneConfig
    shown: Shown = "deblurred"

    def __post_init__(self) -> None:
        _check_option("predictor: shown", self.shown, Shown)
        if wrong := [
            f"{name} = {value}"
            for name, value in _PREDICTOR_BACKBONE.items()
            if getattr(self.backbone, name) != value
        ]:
            raise ValueError(f"predictor: its backbone needs {', '.join(wrong)}")

    @property
    def size(self) -> None:
        """None, since predictors take pictures of any size; see `ModelConfig.size`."""
        return None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PredictorConfig:
        """Invert `dataclasses.asdict`, also after a round trip through JSON.

        Raises:
            TypeError: Unknown or missing keys.
        """
        return cls(**{**data, "backbone": BackboneConfig.from_dict(data["backbone"])})


@dataclass(frozen=True)
class ModelConfig:
    """Description of a checkpoint.

    Attributes:
        backbone: The denoising network.
        schedule: Name and options of the noise schedule in training, as
            `restore.diffusion.schedule.NoiseSchedule.named` takes them.
        parameterization: What the network's output means: ``epsilon`` (the noise), ``x0`` (the
            clean picture), ``v = √ᾱ ε − √(1−ᾱ) x0`` (Salimans, Ho 2022, arXiv 2202.00512), ``edm``
            (a correction of the noisy picture, see `restore.diffusion.denoiser.edm_scales`) or
            ``flow``, the velocity ``ε − x0`` of ``x_t = (1 − t) x0 + t ε`` (Liu et al. 2022, arXiv
            2209.03003), which is not trained here.
        time: What the network is given as its time: the (interpolated) ``step``, ``√ᾱ`` as in SR3
            or ``¼ ln σ`` as in EDM.
        condition_skip: The output is ``F − √(1−ᾱ) · condition``, so that at high noise a
            conditional network only adds to its condition (v-networks only).
        one_step: What a conditional network sees in place of the noisy picture when it restores in
            one step at the highest level: ``noise``, or ``zeros`` if it was trained so (not
            epsilon-networks).
        time_scale: Factor of the step (1000/T for Improved DDPM's schedules of T steps); for
            flow-networks of t.
        sigma_data: Standard deviation of clean pictures (edm-networks only).
        size: Side in pixels of the training pictures, if the network works at no other size; else
            None.
        condition_required: The network was trained only with its condition and is no prior.
        condition_resampling: How the condition of super-resolution was enlarged in training, see
            `restore.diffusion.denoiser.enlarged`: ``bicubic`` is Keys' cubic with a = −3/4,
            ``pil-bicubic`` with a = −1/2 as in Pillow.
        scale: The one factor of that enlargement; None for any.
        distilled_levels: Falling noise levels, without the final 0, of the DDIM steps that the
            network was distilled for (`restore.training.distillation`); None for a network that
            works at any level.
        predictor: The second network of the checkpoint, see `restore.diffusion.predictor`, or None.
        condition_picture: What the network takes as its condition: the ``degraded`` picture, or
            the predictor's output, ``predicted``, in the tasks whose settings say so.
        bridge: The process begins at the degraded picture instead of at noise, and leads to the
            clean one over a ``brownian`` bridge or, without noise on the way, by the ``ot-ode``
            (I²SB: Liu et al. 2023, arXiv 2302.05872). Such a network needs no condition_channels.
            None is a diffusion.
        noise_variance: What the second half of the outputs of a network with ``learned_variance``
            predicts, through a softplus: the expected square of the noise that its estimate leaves
            (``npr``), or of the noise (``sn``), see `restore.samplers.extended_analytic_dpm`. None
            is Improved DDPM's interpolation.

    Raises:
        ValueError: A field is not one of its options, or fields contradict each other.
    """

    backbone: BackboneConfig
    schedule: Mapping[str, Any]
    parameterization: Parameterization = "epsilon"
    time: TimeInput = "step"
    condition_skip: bool = False
    one_step: OneStep = "noise"
    time_scale: float = 1.0
    sigma_data: float = 0.5
    size: int | None = None
    condition_required: bool = False
    condition_resampling: Resampling = "bicubic"
    scale: int | None = None
    distilled_levels: tuple[float, ...] | None = None
    predictor: PredictorConfig | None = None
    condition_picture: ConditionPicture = "degraded"
    bridge: Bridge | None = None
    noise_variance: NoiseVariance | None = None

    def __post_init__(self) -> None:
        self._check_options()
        self._check_output()
        self._check_inputs()
        self._check_size()
        self._check_levels()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelConfig:
        """Invert `dataclasses.asdict`, also after a round trip through JSON.

        Raises:
            TypeError: Unknown or missing keys.
        """
        predictor = data.get("predictor")
        networks = {
            "backbone": BackboneConfig.from_dict(data["backbone"]),
            "predictor": None if predictor is None else PredictorConfig.from_dict(predictor),
        }
        return cls(**{**_with_tuples(data), **networks})

    def _check_options(self) -> None:
        if self.parameterization not in get_args(Parameterization):
            raise ValueError(
                f"unknown parameterization {self.parameterization!r}; known: "
                f"{get_args(Parameterization)}"
            )
        if self.time not in get_args(TimeInput):
            raise ValueError(
                f"time must be step, sqrt_alphas_cumprod or log_sigma, not {self.time!r}"
            )
        if self.condition_resampling not in get_args(Resampling):
            raise ValueError(
                f"condition_resampling must be {', '.join(get_args(Resampling))}, not "
                f"{self.condition_resampling!r}"
            )
        _check_option("one_step", self.one_step, OneStep)
        _check_option("condition_picture", self.condition_picture, ConditionPicture)
        if self.bridge is not None:
            _check_option("bridge", self.bridge, Bridge)
        if self.noise_variance is not None:
            _check_option("noise_variance", self.noise_variance, NoiseVariance)

    def _check_output(self) -> None:
        if self.condition_skip and self.parameterization != "v":
            raise ValueError("the condition skip is defined for v-networks only")
        if self.noise_variance is not None and not self.backbone.learned_variance:
            raise ValueError(
                f"noise_variance = {self.noise_variance}: the network needs learned_variance = true"
            )
        if self.one_step == "zeros" and self.parameterization == "epsilon":
            raise ValueError("one_step = zeros: an epsilon-network would have nothing to predict")

    def _check_inputs(self) -> None:
        bridge = self.bridge is not None
        if bridge and (self.one_step == "zeros" or not self.condition_required):
            raise ValueError(
                f"bridge = {self.bridge}: needs condition_required = true and one_step = noise"
            )
        if self.condition_required and not (bridge or self.backbone.condition_channels):
            raise ValueError("condition_required: the network has no condition_channels")
        if self.condition_picture == "predicted" and self.predictor is None:
            raise ValueError("condition_picture = predicted: the model has no predictor")
        if not self.backbone.noisy_input or self.backbone.times != 1 or self.backbone.noise_map:
            raise ValueError(
                "a denoiser has a noisy_input, one time and no noise_map; predictors are otherwise"
            )

    def _check_size(self) -> None:
        multiple = self.backbone.size_multiple
        if self.size is not None and (self.size < 1 or self.size % multiple):
            raise ValueError(
                f"size must be a multiple of {multiple} for this network, not {self.size}"
            )

    def _check_levels(self) -> None:
        levels = self.distilled_levels
        if levels is None:
            return

        falling = all(a > b for a, b in pairwise(levels))
        if not (levels and min(levels) > 0 and falling):
            raise ValueError(
                f"distilled_levels must be falling numbers above 0, not {list(levels)}"
            )


def _check_option(name: str, value: object, options: Any) -> None:
    """Raise ValueError unless the value is among the options, a `Literal`."""
    words = get_args(options)
    if value not in words:
        raise ValueError(f"{name} must be {' or '.join(words)}, not {value!r}")


def _with_tuples(data: Mapping[str, Any]) -> dict[str, Any]:
    """Undo what JSON does to tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
