"""Texts that nobody writes, such as the content of a file, are refused and not shown whole."""

from __future__ import annotations

import time

import numpy as np
import pytest

import operators
import restore
from operators.grammar import LONGEST_TEXT
from restore.errors import BadArgument
from restore.evaluate.settings import Settings, mask_words
from restore.methods.parameter import parsed

LENGTH = 100_000
PICTURE = np.full((8, 12, 3), 0.5, np.float32)

DOORS = {
    "operator": lambda text: restore.solve(PICTURE, text),
    "kernel": lambda text: restore.deblur(PICTURE, text),
    "degrade": lambda text: restore.degrade(PICTURE, text),
    "mask": lambda text: mask_words(Settings(task="inpaint", mask=text)),
    "parameters": parsed,
}


@pytest.mark.parametrize("letters", ["a", "a ", "1:", "a+", '"'])
@pytest.mark.parametrize("door", DOORS)
def test_a_text_of_a_files_length_is_refused(door: str, letters: str) -> None:
    text = letters * (LENGTH // len(letters))
    started = time.perf_counter()
    with pytest.raises(BadArgument, match=rf"has 1000\d\d characters.* limit of {LONGEST_TEXT}"):
        DOORS[door](text)
    assert time.perf_counter() - started < 5
    with pytest.raises(BadArgument) as refused:
        DOORS[door](text)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("door", DOORS)
def test_a_wrong_text_below_the_limit_is_not_shown_whole(door: str) -> None:
    with pytest.raises(BadArgument) as refused:
        DOORS[door]("a b" * 3000)
    said = str(refused.value)
    assert len(said) < 2500
    assert "characters" not in said


def test_a_long_value_of_any_option_is_not_shown_whole() -> None:
    with pytest.raises(BadArgument) as refused:
        restore.sr(PICTURE, 2, method="x" * LENGTH)
    assert len(str(refused.value)) < 1000


def test_a_text_up_to_the_limit_is_read() -> None:
    text = "mix:" + "/".join(["1,1,1"] * 1600)
    assert 0.9 * LONGEST_TEXT < len(text) <= LONGEST_TEXT
    assert operators.parse(text).measured_channels == 1600
