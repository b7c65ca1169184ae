"""What a result is told to be, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from restore.jobs.picture import unexplained
from restore.methods.feed_forward import is_feed_forward
from restore.methods.report import is_doubtful


def in_words(report: Mapping[str, Any]) -> str:
    """Say whether a result explains its picture.

    Args:
        report: how it was restored, as the JSON line of the command says it.
    """
    misfit = report["consistency"]
    if unexplained(report):
        why = (
            "it is as the network gives it"
            if is_feed_forward(report["method"])
            else "are the degradation and its noise right?"
        )
        return (
            f"The result does not explain the picture: degraded again, it is {_percent(misfit)} of "
            f"white away from it (RMS); {why}"
        )
    if report["steps"] == 0:
        return "The picture is left as it was: there was nothing to do."

    noise = report["noise"]
    noise = noise if isinstance(noise, float) else 0.0
    if is_doubtful(misfit, noise):  # black and white cut off more than the noise
        beside = f", and its noise is {_percent(noise)}" if noise > 0 else ""
        return (
            f"The result hardly explains the picture: degraded again, it is {_percent(misfit)} of "
            f"white away from it (RMS){beside}; are the degradation and its noise right?"
        )

    within = f"; its noise is {_percent(noise)}" if noise > 0 else ""
    return (
        "The result explains the picture: degraded again, it differs from it by "
        f"{_percent(misfit)} of white (RMS){within}."
    )


def _percent(value: float) -> str:
    """Return a fraction of white with two digits that count, as in 0.038 %."""
    shown = "less than 0.001" if value < 1e-5 else f"{100 * value:.2g}"
    return f"{shown}\u00a0%"
