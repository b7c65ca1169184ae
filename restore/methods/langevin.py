"""Parameters of Langevin steps, which take the place of exact draws for nonlinear operators."""

from __future__ import annotations

from restore.methods.parameter import Parameter

LANGEVIN = (
    Parameter(
        "langevin_steps", 10, 1, 1000, "Langevin steps at each level, for JPEG and rounding",
        whole=True,
    ),
    Parameter("step_size", 0.3, 1e-3, 1, "fraction of the way that a Langevin step goes, h"),
)  # fmt: skip
