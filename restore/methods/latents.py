"""What the methods of latents share: settings, refusals and the size of a step."""

from __future__ import annotations

from restore.methods.beginnings import by_kind
from restore.methods.defaults import Defaults
from restore.methods.parameter import Parameter

SETTINGS = Defaults(steps=50, highest=1.0, noisy_eta=1.0)

BY_KIND = by_kind(SETTINGS, compressed_steps=50)

REFUSALS = {"fidelity": "has no posterior mean of pixels to blend with; leave it out"}

STEP_SIZE = Parameter(
    "step_size", 0.2, 0.0, 1.0, "largest RMS that the misfit moves latents by in a step, s"
)
