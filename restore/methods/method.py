"""The record of a method: its function, requirements and settings by kind of problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from restore.diffusion.level_search import Levels
from restore.methods.defaults import Defaults
from restore.methods.parameter import Parameter
from restore.methods.run import Run
from restore.tasks.kind import Kind
from restore.tasks.problem import Operator, Problem


@dataclass(frozen=True)
class Method:
    """A method that solves inverse problems, with its requirements.

    Settings by kind are keyed by `restore.tasks.kind.Kind.name`; docs/methods.md and
    docs/results.md have the measurements behind them.

    Attributes:
        name: name of the method in options.
        about: name in the literature, with the source.
        solve: ``solve(run)`` returns pictures [B, *input_shape of the operator] in [-1, 1].
        defaults: settings for every kind not listed below.
        by_kind: settings for a kind.
        for_samples: settings for a kind if several posterior samples are drawn, whose diversity an
            initial picture near one solution would reduce.
        with_predictor: settings for a kind if the model has a predictor for the problem.
        few_steps: noise levels found for a kind and up to that many steps (docs/samplers.md).
        takes: ``takes(operator)`` is True if the method can use the operator.
        operators: which operators it can use, in words after "takes", for errors and help; empty if
            that is said by ``needs_svd``.
        takes_noisy: the same if the measurement is noisy; None is as without noise.
        noisy_operators: which operators those are, in words after "with noise".
        takes_noise_maps: True if the level of the noise may differ between measured values, which a
            method in the spectral coordinates of the operator cannot use.
        needs_svd: True if the operator needs a singular value decomposition.
        stand_in: name of the method that ``auto`` takes in its place for operators and noise that
            it cannot use.
        needs_prior: True if the model needs an unconditional prior.
        needs_condition: True if the model needs the degraded picture as a condition.
        bridges: True if the model must be a bridge from the degraded picture (``bridge`` of
            `pretrained.description.ModelConfig`), which no other method can use.
        latents: True if the model must be one of latents, with an autoencoder, which no other
            method can use.
        predictor_suffices: True if the prediction stands for the answer of that network.
        needs_gradient: True if it differentiates through the network, which otherwise runs in
            PyTorch's inference mode.
        unconditional_kinds: kinds that it solves without a condition even so.
        stochastic: True if it draws posterior samples.
        refusals: options that it cannot take, each with the reason and what to do instead;
            ``{others}`` stands for the usual methods that take the option.
        parameters: numbers that only this method takes; settings by kind may have values for them.
        samplers: True if another reverse process, noise levels or guidance can be chosen for it.
        compared: True if evaluations run it without being asked.
        stage_noise: standard deviation of the noise between two stages of a cascade, for pixels in
            [0, 1], that measured best.
        noises_stages: True if this noise is added to the input of a later stage. Networks that are
            not told the noise level would take it for detail; their methods still assume the level,
            as that of the artefacts of the sample.
    """

    name: str
    about: str
    solve: Callable[[Run], Tensor]
    defaults: Defaults
    by_kind: Mapping[str, Defaults] = field(default_factory=dict)
    for_samples: Mapping[str, Defaults] = field(default_factory=dict)
    with_predictor: Mapping[str, Defaults] = field(default_factory=dict)
    few_steps: Mapping[str, Mapping[int, Levels]] = field(default_factory=dict)
    takes: Callable[[Operator], bool] = lambda operator: True
    operators: str = ""
    takes_noisy: Callable[[Operator], bool] | None = None
    noisy_operators: str = ""
    takes_noise_maps: bool = False
    needs_svd: bool = False
    stand_in: str = "diffpir"
    needs_prior: bool = True
    needs_condition: bool = False
    bridges: bool = False
    latents: bool = False
    predictor_suffices: bool = False
    needs_gradient: bool = False
    unconditional_kinds: frozenset[str] = frozenset()
    stochastic: bool = True
    refusals: Mapping[str, str] = field(default_factory=dict)
    parameters: Sequence[Parameter] = ()
    samplers: bool = False
    compared: bool = False
    stage_noise: float = 0.0
    noises_stages: bool = False

    def settings(self, kind: Kind, *, samples: int = 1, predictor: bool = False) -> Defaults:
        """Return the settings for a kind of problem.

        Args:
            kind: kind of the problem.
            samples: number of posterior samples.
            predictor: True if the model has a predictor for the problem.
        """
        found = self.by_kind.get(kind.name, self.defaults)
        if predictor:
            found = self.with_predictor.get(kind.name, found)
        if samples > 1:
            found = self.for_samples.get(kind.name, found)

        return found

    def runs_without_condition(self, kind: Kind) -> bool:
        """Return True if an unconditional model can solve a kind of problem."""
        return not self.needs_condition or kind.name in self.unconditional_kinds

    def uses(self, problem: Problem) -> bool:
        """Return True if it can use the operator of a problem, with the noise of this one."""
        if problem.noise_map is not None and not self.takes_noise_maps:
            return False
        if self.takes_noisy is not None and bool(problem.noise.any()):
            return self.takes_noisy(problem.operator)

        return self.takes(problem.operator)

    def suits(
        self,
        problem: Problem,
        *,
        conditional: bool,
        prior: bool,
        bridge: bool = False,
        latent: bool = False,
    ) -> bool:
        """Return True if a model can solve a problem by this method.

        Args:
            problem: the problem to solve.
            conditional: True if the model is conditional.
            prior: True if the model has an unconditional prior.
            bridge: True if the model is a bridge.
            latent: True if the model is one of latents.
        """
        if self.bridges != bridge or self.latents != latent:
            return False

        shown = conditional and problem.condition is not None
        has_needs = (prior or not self.needs_prior) and self.uses(problem)
        return has_needs and (shown or self.runs_without_condition(problem.kind))
