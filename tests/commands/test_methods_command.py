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


def test_what_a_method_needs_only_with_noise_is_shown() -> None:
    text = CliRunner().invoke(app, ["methods", "ddnm"]).stdout
    assert (
        "Draws posterior samples; needs a prior; takes linear operators, with noise operators with "
        "an SVD and blurs with an unknown border." in text
    )
    for method in METHODS.values():
        assert (method.takes_noisy is None) == (method.noisy_operators == ""), method.name


def test_a_predictor_is_enough_for_one_step() -> None:
    text = CliRunner().invoke(app, ["methods", "one-step"]).stdout
    needs = "needs a predictor or a conditional network (not for denoise)."
    assert f"Has one answer; {needs}" in text
    assert "needs a conditional network." in CliRunner().invoke(app, ["methods", "sr3"]).stdout


@pytest.mark.parametrize("arguments", [["methods", "drdm"]])
def test_an_unknown_method_is_refused(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert "no such method; there are ddrm, diffpir" in str(result.exception)
