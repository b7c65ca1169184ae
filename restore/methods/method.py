"""What a method is: what runs, what it needs, and its settings on each kind of problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from restore.diffusion.level_search import Levels
from restore.methods.defaults import Defaults
from restore.methods.run import Run
from restore.tasks.kind import Kind
from restore.tasks.problem import Operator, Problem


@dataclass(frozen=True)
class Method:
    """A method that solves inverse problems, with what it needs.

    The settings by kind are keyed by `restore.tasks.kind.Kind.name`. Their figures come from
    docs/methods.md and docs/results.md, which have the measurements.

    Attributes:
        name: as it is chosen.
        about: its name in the literature, with the source.
        solve: ``solve(run)`` returns pictures [B, *input_shape of the operator] in [-1, 1].
        defaults: settings on every kind that is not below.
        by_kind: settings on a kind.
        for_samples: settings on a kind for several samples of the posterior: a start near one
            answer would make them more alike than the posterior is.
        with_predictor: settings on a kind for models with a predictor that knows the problem.
        few_steps: noise levels found for a kind and up to so many steps (docs/samplers.md).
        takes: ``takes(operator)`` is True if it can use the operator.
        needs_svd: True if that takes a singular value decomposition.
        needs_prior: True if the model must know pictures by themselves.
        needs_condition: True if the model must be shown the degraded picture.
        needs_gradient: True if it differentiates through the network.
        unconditional_kinds: kinds that it solves without a condition all the same.
        stochastic: True if it draws samples of the posterior, with a start, steps and η.
        refusals: options that it cannot take, each with the reason, for one that has one answer.
        samplers: True if another reverse process, levels or guidance can be chosen for it.
        stage_noise: standard deviation of the noise between two stages of a cascade, for pixels in
            [0, 1], as it measures best.
        noises_stages: True if the input of a later stage gets that noise. Networks that are not
            told
            how noisy their input is would take it for detail; their methods reckon with the level
            all the same, as with that of the sample's own faults.
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
    needs_svd: bool = False
    needs_prior: bool = True
    needs_condition: bool = False
    needs_gradient: bool = False
    unconditional_kinds: frozenset[str] = frozenset()
    stochastic: bool = True
    refusals: Mapping[str, str] = field(default_factory=dict)
    samplers: bool = False
    stage_noise: float = 0.0
    noises_stages: bool = False

    def settings(self, kind: Kind, *, samples: int = 1, predictor: bool = False) -> Defaults:
        """Return the settings on a kind of problem.

        Args:
            kind: of the problem.
            samples: how many are drawn.
            predictor: True if the model has a predictor that knows the problem.
        """
        found = self.by_kind.get(kind.name, self.defaults)
        if samples > 1:
            found = self.for_samples.get(kind.name, found)
        if predictor:
            found = self.with_predictor.get(kind.name, found)

        return found

    def runs_without_condition(self, kind: Kind) -> bool:
        """Return True if an unconditional model will do for a kind of problem."""
        return not self.needs_condition or kind.name in self.unconditional_kinds

    def suits(self, problem: Problem, *, conditional: bool, prior: bool) -> bool:
        """Return True if a model can solve a problem by this method.

        Args:
            problem: to solve.
            conditional: True if the model can be shown a condition.
            prior: True if it knows pictures by themselves.
        """
        shown = conditional and problem.condition is not None
        has_needs = (prior or not self.needs_prior) and self.takes(problem.operator)
        return has_needs and (shown or self.runs_without_condition(problem.kind))
