"""The input of a method: network, problem, settings and random numbers."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from operators import NonlinearChain
from restore.diffusion.evidence import Evidence
from restore.diffusion.latents import Autoencoder
from restore.diffusion.protocol import DenoiserLike, PredictorLike
from restore.diffusion.schedule import noise_levels
from restore.diffusion.stepping import Callback, Generator
from restore.errors import BadArgument
from restore.methods.defaults import Defaults
from restore.methods.feed_forward import on_canvas
from restore.methods.holes import level_for_holes
from restore.samplers.catalogue import SAMPLERS
from restore.solvers import project
from restore.tasks.inverse import evidence_of, has_evidence
from restore.tasks.problem import Problem

# Highest and lowest noise levels, in units of the error of JPEG or quantisation (docs/jpeg.md).
HIGHEST_OF_ROUNDING = 4.0
LOWEST_OF_ROUNDING = 0.6

# The highest noise level in units of the model's lowest one, at least: empty pictures and those of
# quality 100 have next to no error.
LEAST_OF_ROUNDING = 1.5


@dataclass(frozen=True)
class Run:
    """All that a method needs to solve a problem once.

    Attributes:
        denoiser: the network.
        problem: the problem to solve.
        settings: settings of the method.
        generator: random number generator on the CPU, or one for each picture.
        callback: called after each call of the network.
        start: initial picture instead of the method's own, [B or 1, *input_shape of the operator]
            in [-1, 1].
    """

    denoiser: DenoiserLike
    problem: Problem
    settings: Defaults
    generator: Generator
    callback: Callback | None
    start: Tensor | None = None

    @property
    def sigmas(self) -> list[float]:
        """Decreasing noise levels, with a final 0."""
        if self.settings.sigmas:
            return [*self.settings.sigmas, 0.0]

        return self.levels(self.settings.steps)

    def levels(self, count: int) -> list[float]:
        """Return a number of decreasing noise levels, and a final 0.

        Methods that call the network several times at a level take fewer levels than steps.
        """
        noise = float(self.problem.noise.max())
        return noise_levels(
            self.denoiser.schedule,
            count,
            self.settings.levels,
            highest=self._highest(noise),
            lowest=self._lowest(noise),
        )

    @property
    def autoencoder(self) -> Autoencoder:
        """The autoencoder of a model of latents."""
        autoencoder = self.denoiser.autoencoder
        assert autoencoder is not None
        return autoencoder

    @property
    def callback_inside(self) -> Callback | None:
        """The callback, for methods that do not crop a canvas with an unknown border themselves."""
        callback = self.callback
        visible = self.problem.operator.visible
        return callback and (lambda step: callback(step._replace(clean=visible(step.clean))))

    def parameter(self, name: str) -> float:
        """Return the value of one of the method's own parameters."""
        return self.settings.parameters[name]

    @property
    def trajectories(self) -> list[Hashable]:
        """One key for each picture, which decides its trajectory besides its random numbers.

        Pictures with equal keys are restored in a batch as each would be alone.
        """
        levels = self.problem.noise.tolist()
        if "rounding" in (self.settings.highest, self.settings.lowest):
            return list(range(len(levels)))  # what was rounded differs between pictures
        if self.settings.sampler is not None and not SAMPLERS[self.settings.sampler].per_picture:
            return list(range(len(levels)))

        return [
            (self._highest(level), self._lowest(level), level > 0, self._predicts(level))
            for level in levels
        ]

    def _highest(self, noise: float) -> float | None:
        """Return the highest noise level for this noise; None is that of the schedule.

        Raises:
            BadArgument: a start with less noise than the lowest level of the model.
        """
        sigmas = self.denoiser.schedule.sigmas
        highest = self.settings.highest
        if highest == "rounding":
            least = LEAST_OF_ROUNDING * float(sigmas[0])
            highest = max(HIGHEST_OF_ROUNDING * self._rounding, least)
        highest = self._highest_for_holes if isinstance(highest, str) else highest
        if highest is None:
            return None

        if self.start is None:
            highest = max(highest, self.settings.above_noise * noise)
        if highest <= sigmas[0]:
            raise BadArgument(
                f"`start_noise`={highest / 2:g}: must be above {sigmas[0] / 2:.3g}, the model's "
                "lowest noise"
            )

        return min(highest, float(sigmas[-1]))

    def _lowest(self, noise: float) -> float | None:
        """Return the lowest noise level for this noise; None is that of the schedule."""
        highest = self._highest(noise) or float(self.denoiser.schedule.sigmas[-1])
        level = 2 * noise
        if self.settings.lowest == "rounding":
            level = max(level, LOWEST_OF_ROUNDING * self._rounding)
        fits = float(self.denoiser.schedule.sigmas[0]) < level < highest

        return level if self.settings.lowest is not None and fits else None

    @cached_property
    def _rounding(self) -> float:
        """Expected error of JPEG and quantisation, for pictures in [-1, 1]."""
        operator = self.problem.model_operator
        assert isinstance(operator, NonlinearChain)
        return float(operator.error(self.problem.model_measurement).max())

    @cached_property
    def _highest_for_holes(self) -> float:
        filled = self.settings.highest == "filled holes"
        return level_for_holes(self.problem.operator, filled=filled)

    @cached_property
    def evidence(self) -> Evidence:
        """Input of the predictor of the model."""
        return evidence_of(self.problem, self.predictor.config.shown)

    @cached_property
    def predicted(self) -> Tensor:
        """Prediction, [B, *input_shape of the operator] in [-1, 1]."""
        return on_canvas(self.problem.operator, self.predictor(self.evidence))

    @property
    def predictor(self) -> PredictorLike:
        """The predictor of a model that has one."""
        predictor = self.denoiser.predictor
        assert predictor is not None
        return predictor

    @property
    def predicts(self) -> bool:
        """True if the method uses the prediction."""
        return self._predicts(float(self.problem.noise.max()))

    def _predicts(self, noise: float) -> bool:
        """Return `predicts` for a measurement with this noise."""
        most = self.settings.predicted
        if most is None or noise > most or self.start is not None:
            return False

        return self.denoiser.predictor is not None and has_evidence(self.problem)

    @cached_property
    def noise_level(self) -> Tensor | float:
        """Noise level σ_y for pictures in [-1, 1]; 0 if no picture has noise.

        It is [B], or [B, 1 or C, h, w] if it differs between measured values.
        """
        if self.problem.noise_map is not None:
            return 2 * self.problem.noise_map
        return 2 * self.problem.noise if bool(self.problem.noise.any()) else 0.0

    @property
    def eta(self) -> float:
        """Fraction of fresh noise in each step, η."""
        noisy = bool(self.problem.noise.any())
        return self.settings.noisy_eta if noisy else self.settings.eta

    def consistent(self, error: float) -> Callable[[Tensor], Tensor]:
        """Return the projection of an estimate onto the pictures that explain the measurement.

        Args:
            error: standard deviation of the error of the estimate, weighed against the noise of
                the measurement.
        """
        problem = self.problem

        def projected(clean: Tensor) -> Tensor:
            y = problem.model_measurement
            return project(problem.model_operator, clean, y, self.noise_level, prior_std=error)

        return projected
