"""Colour filter arrays: any pattern, and X-Trans's, against dense matrices and third-party code."""

from __future__ import annotations

import pytest
import torch

from operators import (
    BAYER_PATTERNS,
    X_TRANS_PATTERN,
    Bayer,
    ColorFilterArray,
    XTrans,
    check,
    dense_matrix,
    parse,
)

PATTERNS = {"xtrans": X_TRANS_PATTERN, "stripes": ("RGB",), "columns": ("R", "G", "B"), "1": ("G",)}
SIZES = [(7, 13), (6, 6), (1, 5), (3, 1), (1, 1)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", PATTERNS)
def test_picks_the_color_of_the_pattern(name: str, size: tuple[int, int]) -> None:
    pattern = PATTERNS[name]
    operator = ColorFilterArray((3, *size), pattern, dtype=torch.float64)
    matrix = torch.zeros(size[0] * size[1], 3, *size, dtype=torch.float64)
    for row in range(size[0]):
        for column in range(size[1]):
            letter = pattern[row % len(pattern)][column % len(pattern[0])]
            matrix[row * size[1] + column, "RGB".index(letter), row, column] = 1

    assert torch.equal(dense_matrix(operator), matrix.flatten(1))
    check(operator, rtol=1e-11)


@pytest.mark.parametrize("pattern", BAYER_PATTERNS)
def test_bayer_is_a_case_of_it(pattern: str) -> None:
    x = torch.rand(2, 3, 5, 6)
    general = ColorFilterArray((3, 5, 6), (pattern[:2], pattern[2:]))
    assert torch.equal(Bayer((3, 5, 6), pattern).A(x), general.A(x))


def test_x_trans_has_every_color_in_every_line_and_20_greens() -> None:
    rows = list(X_TRANS_PATTERN)
    columns = ["".join(column) for column in zip(*rows, strict=True)]
    assert all(set(line) == set("RGB") for line in rows + columns)
    assert "".join(rows).count("G") == 20
    assert "".join(rows).count("R") == "".join(rows).count("B") == 8
    assert parse("xtrans").operator((3, 6, 6)).pattern == X_TRANS_PATTERN
    assert torch.equal(XTrans((3, 7, 8)).A(torch.ones(1, 3, 7, 8)), torch.ones(1, 1, 7, 8))


def test_text_of_a_pattern() -> None:
    operator = parse("cfa:RG/GB").operator((3, 4, 5))
    x = torch.rand(1, 3, 4, 5)
    assert torch.equal(operator.A(x), Bayer((3, 4, 5), "RGGB").A(x))
    assert str(parse("cfa:RG/GB")) == "cfa:RG/GB"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ((), "rows of R, G and B"),
        (("",), "rows of R, G and B"),
        (("RG", "G"), "one length"),
        (("RGBE",), "rows of R, G and B"),
        (("rg", "gb"), "rows of R, G and B"),
        (("G" * 17,), "at most 16"),
        (("G",) * 17, "at most 16"),
    ],
)
def test_refuses_what_is_no_pattern(pattern: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ColorFilterArray((3, 4, 4), pattern)


def test_refuses_pictures_that_are_not_in_color() -> None:
    with pytest.raises(ValueError, match="3 channels"):
        XTrans((1, 6, 6))
