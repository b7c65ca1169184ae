"""The examples and the page about them run as they are."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch
from PIL import Image

import operators
import restore
from restore.errors import BadArgument

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "own_operator.py"


@pytest.fixture(scope="module")
def example() -> dict:
    return runpy.run_path(str(EXAMPLE))


def test_own_operator(example: dict, tmp_path: Path, capsys) -> None:
    """It ends with a better picture than it measured, and than the inverse."""
    example["main"](ROOT / "examples" / "parrots.png", tmp_path / "out.png")
    measured, inverted, restored = map(float, re.findall(r"([\d.]+) dB", capsys.readouterr().out))
    assert restored > inverted + 3 > measured + 3
    assert Image.open(tmp_path / "out.png").size == (3 * 192, 128)


@pytest.mark.parametrize("size", [(9, 12), (6, 9), (11, 13)], ids=str)
def test_its_operators(example: dict, size: tuple[int, int]) -> None:
    shape = (3, *size)
    for operator in (
        example["ghost"](shape),
        example["ColorFringe"](shape),
        example["Vignette"](shape, 0.4),
    ):
        operators.check(operator, rtol=1e-4)
    assert float(example["Vignette"](shape, 0.4).singular_values.min()) == pytest.approx(0.4)
    with pytest.raises(ValueError, match="3 shifts of less than"):
        example["ColorFringe"](shape, (0, 99, 0))
    with pytest.raises(ValueError, match="above 0"):
        example["Vignette"](shape, 0.0)


def test_the_page_runs_and_says_what_the_example_does(example: dict) -> None:
    text = (ROOT / "docs" / "own-operator.md").read_text(encoding="utf-8")
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    x = torch.rand(2, 3, 9, 12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(names["window_pane"](x), example["window_pane"](x))
    page, file = (kind["Vignette"]((3, 9, 12)).A(x) for kind in (names, example))
    torch.testing.assert_close(page, file)
    page, file = (kind["ColorFringe"]((3, 9, 12)).A(x)[..., 3:-3] for kind in (names, example))
    torch.testing.assert_close(page, file)
    _rounds_as_it_says(names["RootLevels"](8), x)
    assert names["smooth"].shape == (1, 3, 9, 12)


def _rounds_as_it_says(rounding: operators.NonlinearOperator, x: torch.Tensor) -> None:
    """Intervals hold what is rounded to their values, and means over them are those of draws."""
    with pytest.raises(BadArgument, match=r"give NonlinearChain\(\[operator\]"):
        restore.solve(x, rounding)
    y = rounding.A(x)
    z = torch.rand(x.shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(rounding.A(y), y)
    assert torch.equal(rounding.A(rounding.nearest(z, y)), y)
    torch.testing.assert_close(
        rounding.error(y), (y - x).square().mean(dim=(1, 2, 3)).sqrt(), rtol=0.2, atol=0
    )

    deviations = (torch.full((2, 1, 1, 1), 0.2),)
    draws = z + 0.2 * torch.randn(40_000, 1, 1, 1, 1, generator=torch.Generator().manual_seed(2))
    one = (slice(None), 0, 0, 4, 5)
    kept = draws[one][rounding.A(draws[one]) == y[one[1:]]]
    inside = kept[(kept > 0) & (kept < 1)]
    found = rounding.explained(z, y, deviations)[one[1:]]
    assert float(found) == pytest.approx(float(inside.mean()), abs=0.005)
