"""Every task and solver has a page in the gallery, and the scripts of these pages run."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from restore.methods import METHODS
from restore.tasks import TASKS

SCRIPTS = Path(__file__).parents[2] / "docs" / "gallery_examples"
PAGES = sorted(SCRIPTS.glob("*/plot_*.py"))


def pages(folder: str) -> set[str]:
    return {page.stem.removeprefix("plot_") for page in PAGES if page.parent.name == folder}


def test_every_task_has_a_page() -> None:
    assert pages("tasks") == set(TASKS)


def test_every_solver_of_the_shipped_model_has_a_page() -> None:
    own_model = {name for name, method in METHODS.items() if method.latents or method.bridges}
    assert pages("solvers") == {name.replace("-", "_") for name in METHODS.keys() - own_model}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_names_its_paper_equation_and_calls(page: Path) -> None:
    text = page.read_text(encoding="utf-8").split('"""')[1]
    linked = re.findall(r"`arXiv (\d{4}\.\d{5}) <https://arxiv.org/abs/(\d{4}\.\d{5})>`__", text)
    assert all(shown == address for shown, address in linked)
    assert linked or re.search(r"not\s+on\s+arXiv", text)
    assert ".. math::" in text
    assert re.search(r"network\s+calls?", text)
    assert re.search(r"^Use it ", text, re.MULTILINE)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Draw figures without a screen, and forget them and the modules of the gallery afterwards."""
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    plt.close("all")
    for name in {"figures", "pictures"} - before:
        sys.modules.pop(name, None)


@pytest.mark.shipped_network
@pytest.mark.parametrize("page", ["tasks/plot_sr", "tasks/plot_develop", "solvers/plot_one_step"])
def test_a_page_runs_and_ends_with_the_truth(
    page: str, figures: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first two PSNR are of a classical result, or of one call, and of the solver."""
    import matplotlib.pyplot as plt

    script = SCRIPTS / f"{page}.py"
    monkeypatch.syspath_prepend(script.parent)
    runpy.run_path(str(script))

    titles = [axis.get_title() for axis in plt.gcf().axes]
    found = [float(level) for level in re.findall(r"([\d.]+) dB", capsys.readouterr().out)]
    assert titles[-1] == "truth"
    assert any(title.endswith(f"{found[0]:.1f} dB") for title in titles)
    assert max(found) > 25
    if page.startswith("tasks"):
        assert found[1] > found[0] + 0.5
