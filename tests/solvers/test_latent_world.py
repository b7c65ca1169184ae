"""Every method of latents in a world with a known posterior: its mean and covariance.

benchmarks/latent_world.py prints the whole table.
"""

from __future__ import annotations

import pytest
from support.benchmark_scripts import benchmark

from restore.methods import METHODS

exact = benchmark("analytic_world")
script = benchmark("latent_world")
WORLD = next(
    world
    for world in script.worlds("Gaussian", script.wider(exact.priors()["Gaussian"]))
    if world.name.endswith("x4") and world.noise == 0.05
)

# Relative errors of mean and covariance with 50 calls and 150 samples; those of exact samples are
# about 0.07 and 0.2.
GAPS = {
    "latent-dps": (0.69, 1.28),
    "psld": (0.57, 0.98),
    "resample": (0.26, 0.32),
    "latent-daps": (0.09, 0.18),
}


@pytest.mark.parametrize("name", GAPS)
def test_the_gaps_are_the_known_ones(name: str) -> None:
    found = exact.solved(METHODS[name], WORLD, 50, 150, {})
    assert WORLD.gaps(found) == pytest.approx(GAPS[name], abs=0.2)


def test_pixels_and_latents_have_worlds_of_their_own() -> None:
    assert [name for name, method in METHODS.items() if exact.suited(method, WORLD)] == list(GAPS)
