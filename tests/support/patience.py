"""Conjugate gradients that do not stop early: what is compared is a method, not its patience."""

from __future__ import annotations

import pytest

import operators.base
import operators.border_convolution


def run_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the conjugate gradients of operators without an SVD run until they have converged."""
    for module in (operators.base, operators.border_convolution):
        monkeypatch.setattr(module, "RIDGE_ITERATIONS", 1000)
    monkeypatch.setattr(operators.base, "RIDGE_TOLERANCE", 1e-7)
    monkeypatch.setattr(operators.border_convolution, "RIDGE_GAIN", 1e-7)
