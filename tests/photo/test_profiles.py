"""ICC profiles, read by LittleCMS, and the matrices between spaces."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from restore.photo.profiles import SPACES, from_srgb, is_linear, profile

COLORS = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [128, 128, 128], [255, 255, 255], [200, 100, 50]]


def converted(colors: list[list[int]], source: bytes | None, target: bytes | None) -> np.ndarray:
    """Colours by LittleCMS; None is its own sRGB."""
    profiles = [
        ImageCms.createProfile("sRGB") if one is None else ImageCms.ImageCmsProfile(io.BytesIO(one))
        for one in (source, target)
    ]
    image = Image.fromarray(np.array([colors], np.uint8))
    return np.asarray(ImageCms.profileToProfile(image, *profiles))[0]


@pytest.mark.parametrize("space", SPACES)
def test_profiles_name_themselves_and_hold_white(space: str) -> None:
    made = ImageCms.ImageCmsProfile(io.BytesIO(profile(space)))
    assert ImageCms.getProfileDescription(made).strip() == SPACES[space][0]
    assert converted([[255] * 3, [0] * 3], profile(space), None).tolist() == [[255] * 3, [0] * 3]


def test_srgb_is_srgb() -> None:
    assert np.abs(converted(COLORS, profile("srgb"), None) - np.array(COLORS)).max() <= 1


def test_display_p3_by_its_published_matrix() -> None:
    """CSS Color 4 has the rational numbers of this matrix."""
    expected = [[0.82246, 0.17754, 0], [0.03319, 0.96681, 0], [0.01708, 0.07240, 0.91052]]
    assert from_srgb("display-p3") == pytest.approx(np.array(expected), abs=2e-5)
    shown = converted([[255, 0, 0]], None, profile("display-p3"))[0]
    assert shown.tolist() == pytest.approx([234, 51, 35], abs=1)


def test_linear_is_proportional_to_light() -> None:
    assert [is_linear(space) for space in SPACES] == [False, False, True]
    assert converted([[55] * 3], profile("linear"), None)[0].tolist() == pytest.approx(
        [128] * 3, abs=1
    )
    assert from_srgb("linear") == pytest.approx(np.eye(3))
