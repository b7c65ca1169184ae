"""Every method in a world with an exact denoiser: its mean and covariance, and the known gaps.

benchmarks/analytic_world.py prints the whole table.
"""

from __future__ import annotations

import pytest
from support.benchmark_scripts import benchmark

from restore.methods import METHODS

script = benchmark("analytic_world")
WORLD = next(
    world
    for world in script.worlds("Gaussian", script.priors()["Gaussian"])
    if world.name.endswith("x4") and world.noise == 0.05
)
# Methods with a gradient have tests of their own, and take longer.
SOLVERS = [
    name
    for name, method in METHODS.items()
    if script.suited(method, WORLD) and not method.needs_gradient
]

# Relative error of the covariance with 20 calls and 300 samples; that of exact samples is 0.1.
GAPS = {
    ("ddrm",): 0.40,
    ("diffpir",): 0.61,
    ("dpir",): 1.0,  # one answer, without spread
    ("daps",): 0.60,
    ("daps", "langevin_time", 1e6): 0.25,
    ("pnp-dm",): 0.61,
    ("snips",): 0.31,
}


def _gaps(name: str, calls: int, **parameters: float) -> tuple[float, float]:
    """Errors of mean and covariance, relative to the spread and the covariance."""
    return WORLD.gaps(script.solved(METHODS[name], WORLD, calls, 300, parameters))


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_finds_the_mean(name: str) -> None:
    """Of an enlargement, where most of the spread is unmeasured; and none spreads wildly."""
    mean, covariance = _gaps(name, 20)
    assert mean < 0.35
    assert covariance < 1.1


@pytest.mark.parametrize(("of", "gap"), GAPS.items(), ids=str)
def test_the_gap_of_the_covariance_is_the_known_one(of: tuple, gap: float) -> None:
    parameters = {of[1]: of[2]} if len(of) > 1 else {}
    assert _gaps(of[0], 20, **parameters)[1] == pytest.approx(gap, abs=0.15)


def test_pnp_dm_closes_it_with_more_calls_of_a_prior_step() -> None:
    few, many = (_gaps("pnp-dm", 10 * steps, reverse_steps=steps)[1] for steps in (2, 6))
    assert many < 0.22 < 0.5 < few
