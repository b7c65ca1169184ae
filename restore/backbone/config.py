"""Everything that determines a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

CHOICES: dict[str, tuple[Any, ...]] = {
    "layout": ("adm", "ddpm++", "lean"),
    "qkv_order": ("legacy", "new"),
    "norm": ("group", "rms"),
    "downsample_padding": ("both", "end"),
}


@dataclass(frozen=True)
class BackboneConfig:
    """Everything that determines the network.

    Attributes:
        layout: ``adm``, the U-Net of ADM, ``ddpm++``, see `restore.backbone.ddpmpp`, or ``lean``,
            see `restore.backbone.lean`.
        image_channels: channels of the noisy picture.
        condition_channels: channels of the condition picture beside it (0: unconditional only).
        condition_map: whether one more channel marks the known pixels of the condition.
        noise_map: whether one more channel holds the noise level of the measurement (predictors).
        noisy_input: whether the noisy picture is an input; predictors see their condition alone.
        times: how many numbers the network is told beside its pictures, through the time embedding:
            1, the time of its noisy picture, or for predictors 2, see
            `restore.diffusion.predictor`.
        learned_variance: twice the output channels; the second half interpolates the variance.
        channels: width that the multipliers multiply.
        channel_multipliers: one a level, from full resolution down.
        blocks: residual blocks a level on the way down (one more on the way up, except of
            ``lean``).
        attention_factors: down-sampling factors at which residual blocks are followed by attention;
            ADM's "attention at 32, 16, 8 of 256" is (8, 16, 32). ``ddpm++`` attends after the last
            block alone on the way up.
        middle_attention: attention between the two middle blocks.
        heads, head_channels: number of attention heads, or channels of each (the latter wins).
        qkv_order: ``legacy`` keeps q, k, v together within each head, ``new`` keeps the heads
            together within q, k and v. Weights of both have the same shapes.
        norm: ``group`` (GroupNorm) or ``rms`` (per pixel over channels, which is local).
        norm_eps: added to the variance.
        norm_groups: of ``group``.
        scale_shift_norm: the time embedding scales and shifts the second norm, instead of being
            added.
        resblock_updown: residual blocks change the resolution, instead of strided and up-sampling
            convolutions.
        classes: number of class labels (0: none).
        dropout: in residual blocks.
        embedding_endpoint: the frequencies of the time embedding fall to 1/10000 itself, as DDPM's
            do, instead of ending just above it.
        embedding_width: channels of the time embedding that the blocks are given; None is four
            times ``channels``.
        embedding_activation: SiLU before every block's projection of the time embedding.
        qkv_bias: of the projection to queries, keys and values.
        downsample_padding: strided convolutions see zeros on ``both`` sides, or, as DDPM's do, at
            the ``end`` only (below and right).
        patch: pixels are unshuffled ``patch × patch`` in front and shuffled behind.

    Attention, ``scale_shift_norm``, ``resblock_updown``, ``dropout``, ``embedding_activation``,
    ``qkv_bias`` and ``downsample_padding`` are no options of ``lean``; residual blocks of
    ``ddpm++`` always change the resolution.

    Raises:
        ValueError: a word that is none of an option's.
    """

    layout: Literal["adm", "ddpm++", "lean"] = "adm"
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
    qkv_order: Literal["legacy", "new"] = "legacy"
    norm: Literal["group", "rms"] = "group"
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
    downsample_padding: Literal["both", "end"] = "both"
    patch: int = 1
    noise_map: bool = False
    noisy_input: bool = True
    times: int = 1

    def __post_init__(self) -> None:
        for name, words in CHOICES.items():
            if (value := getattr(self, name)) not in words:
                raise ValueError(f"{name} must be {' or '.join(words)}, not {value!r}")
        if self.times < 1 or (self.times > 1 and self.channels % (2 * self.times)):
            raise ValueError(
                f"times must be at least 1 and divide half of the {self.channels} channels: "
                f"{self.times}"
            )

    @property
    def in_channels(self) -> int:
        noisy = self.image_channels if self.noisy_input else 0
        return noisy + self.condition_channels + int(self.condition_map) + int(self.noise_map)

    @property
    def out_channels(self) -> int:
        return self.image_channels * (2 if self.learned_variance else 1)

    @property
    def size_multiple(self) -> int:
        """Height and width must be multiples of this."""
        return self.patch * 2 ** (len(self.channel_multipliers) - 1)

    @property
    def widths(self) -> list[int]:
        """Channels of each level."""
        return [int(self.channels * m) for m in self.channel_multipliers]

    @property
    def embedding_channels(self) -> int:
        return self.embedding_width or 4 * self.channels
