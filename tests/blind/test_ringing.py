"""Ringing: a right kernel makes edges sparser, a wrong one denser."""

from __future__ import annotations

import numpy as np
import pytest
from support.blurs import NOISE, blurred

from operators import kernels
from restore.blind.estimate import MOST_RINGING
from restore.blind.ringing import ringing

DISK = kernels.disk(4)


def test_no_blur_changes_nothing() -> None:
    assert ringing(blurred(DISK)[0], np.ones((1, 1)), NOISE) == pytest.approx(1)


def test_the_right_kernel_makes_edges_sparser() -> None:
    assert ringing(blurred(DISK)[0], DISK, NOISE) < 1


@pytest.mark.parametrize("wrong", [kernels.motion(31, 60), kernels.disk(6)], ids=["motion", "disk"])
def test_a_wrong_kernel_rings(wrong) -> None:
    assert ringing(blurred(np.ones((1, 1)))[0], wrong, NOISE) > MOST_RINGING
