"""A classifier of noisy pictures, as the log-probability that guidance takes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from pretrained.classifier_description import ClassifierConfig
from restore.backbone import mirror_to_multiple
from restore.backbone.classifier import NoisyClassifier
from restore.diffusion.denoiser import check_state
from restore.diffusion.guidance import LogProbability
from restore.diffusion.schedule import NoiseSchedule
from restore.errors import BadArgument

# Most names of classes in a message.
_NAMED = 8


class Classifier:
    """A classifier of noisy pictures with the description of its training.

    Its coordinates are those of denoisers: ``x = x0 + σ ε`` with pictures in [-1, 1]. The network
    sees ``x/√(1+σ²)`` and the step of its own schedule whose noise level is σ.

    Args:
        network: The network; see `build_classifier`.
        config: Its description.
    """

    def __init__(self, network: NoisyClassifier, config: ClassifierConfig) -> None:
        self.network = network
        self.config = config

    @cached_property
    def schedule(self) -> NoiseSchedule:
        """Noise schedule that the network was trained on."""
        return NoiseSchedule.named(**self.config.schedule)

    def log_probabilities(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Return log p(y | x) of all classes, differentiable with respect to x.

        Args:
            x: [B, 3, H, W]; a classifier of one size takes that alone.
            sigma: Noise level, one number or [B].

        Returns:
            [B, classes] in nats, float32.

        Raises:
            BadArgument: Pictures of another size.
        """
        self.check_size(x.shape[-2], x.shape[-1])
        level = torch.as_tensor(sigma, device=x.device, dtype=torch.float32).reshape(-1)
        scaled = x.float() * torch.rsqrt(1 + level**2).reshape(-1, 1, 1, 1)
        seen = mirror_to_multiple(scaled, self.config.backbone.size_multiple)
        logits = self.network(seen, self.schedule.time_at(level))
        return logits.float().log_softmax(dim=1)

    def of_class(self, label: int | None) -> LogProbability:
        """Return log p(label | x) as `restore.diffusion.guidance.classifier_guided` takes it.

        Raises:
            BadArgument: No class is given, or there is no such class.
        """
        count = self.config.classes
        if label is None:
            raise BadArgument(
                f"`label` is missing: this classifier tells {count} classes apart, "
                f"{self._listed()}; which one is wanted?"
            )
        if not 0 <= label < count:
            raise BadArgument(
                f"`label`={label}: must be between 0 and {count - 1} for this classifier: "
                f"{self._listed()}"
            )

        return lambda x, sigma: self.log_probabilities(x, sigma)[:, label]

    def check_size(self, height: int, width: int) -> None:
        """Check that it takes pictures of a size.

        Raises:
            BadArgument: It does not.
        """
        size = self.config.size
        if size is not None and (height, width) != (size, size):
            raise BadArgument(
                f"this classifier sees pictures of {size}x{size} alone, not {width}x{height}"
            )

    def _listed(self) -> str:
        """Return the classes in words."""
        names = self.config.names
        if not names:
            return f"0 to {self.config.classes - 1}"
        shown = ", ".join(f"{index} {name}" for index, name in enumerate(names[:_NAMED]))
        return f"{shown}, …" if len(names) > _NAMED else shown


def build_classifier(
    config: ClassifierConfig, state: Mapping[str, Tensor], device: torch.device | str = "cpu"
) -> Classifier:
    """Build a classifier for inference, in float32, since its gradient is small.

    Args:
        config: Description of the checkpoint.
        state: Its tensors, of any float type.
        device: Device of the weights.

    Raises:
        ValueError: If the tensors do not fit the description; the message lists their names.
    """
    with torch.device("meta"):
        network = NoisyClassifier(config)

    expected = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    check_state(expected, {name: tuple(t.shape) for name, t in state.items()})
    network.load_state_dict({name: t.float() for name, t in state.items()}, assign=True)
    network.requires_grad_(False).eval()
    return Classifier(network.to(device).to(memory_format=torch.channels_last), config)
