"""`restore methods`."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from restore.commands.app import app
from restore.methods import METHODS


def test_all_methods_are_listed_with_their_parameters() -> None:
    text = CliRunner().invoke(app, ["methods"]).stdout
    for method in METHODS.values():
        assert f"{method.name}: {method.about}" in text
        for parameter in method.parameters:
            assert f"--parameter {parameter.name}: {parameter.help}" in text


def test_one_method_is_shown_alone() -> None:
    text = CliRunner().invoke(app, ["methods", "ddrm"]).stdout
    assert text.startswith("ddrm: ")
    assert "needs an operator with an SVD, a prior." in text
    assert "diffpir" not in text


def test_what_operators_a_method_takes_is_shown() -> None:
    text = CliRunner().invoke(app, ["methods", "repaint"]).stdout
    assert "Draws posterior samples; needs a prior; takes masks, mosaics and compressed" in text
    assert "jump_length: noise levels of a jump back up, j (1 to 1000, default 1)" in text
    assert "Has one answer" in CliRunner().invoke(app, ["methods", "red-diff"]).stdout


@pytest.mark.parametrize("arguments", [["methods", "drdm"]])
def test_an_unknown_method_is_refused(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert "no such method; there are ddrm, diffpir" in str(result.exception)
