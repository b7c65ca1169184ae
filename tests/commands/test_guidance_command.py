"""`--guidance`: classifier-free guidance of SR3."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from support.pictures import files, piece

import restore
from restore.restorer import restorer

WAYS = pytest.mark.parametrize(
    "way", [{"method": "sr3"}, {"sampler": "dpmpp-2m"}], ids=["sr3", "sampler"]
)


def enlarged(**options: object) -> np.ndarray:
    return restore.sr(np.asarray(piece((12, 8))), 2, **{"steps": 3, "device": "cpu"} | options)


def calls(**options: object) -> int:
    """Count the network calls of one result."""
    count = 0

    def note(*_: object) -> None:
        nonlocal count
        count += 1

    hook = restorer("default", "cpu").denoiser.denoise.network.register_forward_hook(note)
    enlarged(**options)
    hook.remove()
    return count


@WAYS
def test_one_is_what_there_is_without(way) -> None:
    assert np.array_equal(enlarged(**way, guidance=1), enlarged(**way))
    assert calls(**way, guidance=1) == 3


@WAYS
def test_more_is_another_picture_at_two_calls_a_step(way) -> None:
    plain, guided, more = (enlarged(**way, guidance=scale).astype(int) for scale in (1, 2, 4))
    assert 0 < abs(guided - plain).mean() < abs(more - plain).mean() < 20
    assert calls(**way, guidance=2) == 6


def test_none_at_all_is_the_prior_alone(monkeypatch) -> None:
    """At scale 0 the estimates are unconditional, and only the projection sees the input."""
    unshown = restorer("default", "cpu").denoiser
    call = type(unshown).__call__

    def blind(self, x, sigma, condition=None):
        return call(self, x, sigma, None)

    expected = enlarged(method="sr3", guidance=0)
    monkeypatch.setattr(type(unshown), "__call__", blind)
    assert np.array_equal(enlarged(method="sr3"), expected)


def test_the_command_guides(command, picture, tmp_path) -> None:
    source = picture(size=(12, 8))
    for scale in (1, 3):
        assert (
            command(
                "sr", source, tmp_path / f"out{scale}.png", "--steps", 2, "--guidance", scale
            ).code
            == 0
        )
    assert command("sr", source, tmp_path / "plain.png", "--steps", 2, "--method", "sr3").code == 0
    pixels = {
        path: np.asarray(Image.open(tmp_path / path))
        for path in ("out1.png", "out3.png", "plain.png")
    }
    assert np.array_equal(pixels["out1.png"], pixels["plain.png"])
    assert not np.array_equal(pixels["out3.png"], pixels["plain.png"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sr", "--guidance", "-1"), "--guidance -1.0: must be 0 or more"),
        (("sr", "--guidance", "nan"), "--guidance nan: must be 0 or more"),
        (("sr", "--guidance", "much"), "--guidance"),
        (
            ("sr", "--guidance", "2", "--method", "ddrm"),
            "--guidance 2.0: is for --method sr3, not ddrm",
        ),
        (
            ("colorize", "--guidance", "2", "--method", "one-step"),
            "is for --method sr3, not one-step",
        ),
        (
            ("solve", "--operator", "bayer", "--guidance", "2"),
            "the task 'demosaic' has no condition picture",
        ),
    ],
)
def test_refuses(command, picture, words, said) -> None:
    source = picture(mode="L", size=(12, 8))
    before = files(source.parent)
    outcome = command(words[0], source, *words[1:])
    assert outcome.code == 1
    assert said in outcome.err
    assert files(source.parent) == before
