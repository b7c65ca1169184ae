"""What is to be exported, and whether it can be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pretrained
from pretrained.hub import WEIGHT_SUFFIXES
from restore.diffusion.denoiser import Denoiser
from restore.errors import BadArgument
from restore.export import TASKS
from restore.export.graphs import Denoising, Enlargement

# Factors of downsampling on which predictors are trained, see `restore.training.drawing.SCALES`.
LEAST_SCALE, LARGEST_SCALE = 2, 8
DEFAULT_SCALE = 4

# Values of weights that a file can hold: protobuf ends at 2 GB.
MOST_VALUES = 500_000_000


@dataclass(frozen=True)
class Order:
    """What is exported.

    Attributes:
        task: One of `restore.export.TASKS`.
        model: As for `restore.Restorer`.
        factor: Scale factor of ``sr``; None is `DEFAULT_SCALE`, and the only one for ``denoise``.
        noise: Noise level of ``denoise`` that is built in, for pixels in [0, 1]; None makes it an
            input.
        label: Class of a class-conditional model, for ``denoise``.
        half: True to store the weights in float16.
    """

    task: str
    model: str = "default"
    factor: float | None = None
    noise: float | None = None
    label: int | None = None
    half: bool = False

    @property
    def scale(self) -> int:
        """Factor between the sizes of input and output."""
        if self.task != "sr":
            return 1
        return DEFAULT_SCALE if self.factor is None else int(self.factor)

    @property
    def takes_noise(self) -> bool:
        """True if the noise level is an input of the file."""
        return self.task == "denoise" and self.noise is None

    @property
    def name(self) -> str:
        """Name of the file without its suffix, such as ``restore-sr-x4``."""
        model = pretrained.short_name(self.model)
        stem = Path(model).stem if Path(model).suffix in WEIGHT_SUFFIXES else model
        stem = "restore" if model in pretrained.SHIPPED else re.sub("[/:@]", "-", stem)
        words = [stem, self.task]
        words += [f"x{self.scale}"] if self.task == "sr" else []
        words += [] if self.noise is None else [f"noise{self.noise:g}"]
        return "-".join(words)

    def check(self) -> None:
        """Check the options, before the model is loaded.

        Raises:
            BadArgument: One is out of range, or belongs to the other task.
        """
        if self.task not in TASKS:
            raise BadArgument(
                f"`task`={self.task}: only {' and '.join(TASKS)} are one call of a network, which "
                "a file can hold"
            )
        if self.task == "sr":
            self._check_enlargement()
        elif self.factor is not None:
            raise BadArgument(f"`scale`={self.factor:g}: is an option of `task`=sr")
        elif self.noise is not None and not 0 < self.noise <= 1:
            raise BadArgument(f"`noise`={self.noise:g}: must be above 0 and at most 1")

    def _check_enlargement(self) -> None:
        factor = DEFAULT_SCALE if self.factor is None else self.factor
        if not (LEAST_SCALE <= factor <= LARGEST_SCALE and factor == int(factor)):
            raise BadArgument(
                f"`scale`={factor:g}: must be a whole number from {LEAST_SCALE} to "
                f"{LARGEST_SCALE}, which predictors are trained for; restore sr takes others"
            )
        for name, value in (("noise", self.noise), ("label", self.label)):
            if value is not None:
                raise BadArgument(f"`{name}`={value:g}: is an option of `task`=denoise")

    def graph(self, denoiser: Denoiser) -> Enlargement | Denoising:
        """Return the module to export.

        Args:
            denoiser: The model, on the CPU in float32.

        Raises:
            BadArgument: The model cannot do the task, or not in one file for all sizes.
        """
        network = denoiser.predictor if self.task == "sr" else denoiser
        if network is None:
            raise BadArgument(
                f"`model`={self.model}: has no predictor, the network that enlarges in one call; "
                "use a model that has one, such as default, or `task`=denoise"
            )

        values = sum(weights.numel() for weights in network.network.parameters())
        if values > MOST_VALUES:
            raise BadArgument(
                f"`model`={self.model}: has {values / 1e6:.0f} million weights; an ONNX file holds "
                f"at most {MOST_VALUES / 1e6:.0f} million"
            )
        if self.task == "sr":
            assert denoiser.predictor is not None
            return Enlargement(denoiser.predictor, self.scale)
        if denoiser.config.size is not None:
            raise BadArgument(
                f"`model`={self.model}: knows pictures of {denoiser.config.size} pixels alone, and "
                "an exported file is for all sizes; use another model"
            )

        return Denoising(denoiser.of_class(self.label), self.noise)
