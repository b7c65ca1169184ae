"""The numbers that only one method takes: their sources, their bounds, their errors."""

from __future__ import annotations

from dataclasses import replace

import pytest

from restore.errors import BadArgument
from restore.methods import METHODS
from restore.methods.defaults import Defaults
from restore.methods.options import Options
from restore.methods.parameter import Parameter, parsed
from restore.methods.settings import settings_for
from restore.tasks import TASKS

STEP = Parameter("step_size", 0.5, 0.0, 2.0, "factor of the gradient")
JUMP = Parameter("jump", 3, 1, 10, "levels that a jump goes back", whole=True)


@pytest.fixture(autouse=True)
def toy(monkeypatch) -> None:
    toy = replace(
        METHODS["diffpir"],
        name="toy",
        parameters=(STEP, JUMP),
        by_kind={"sr": Defaults(steps=4, parameters={"jump": 5})},
    )
    monkeypatch.setitem(METHODS, "toy", toy)


def _parameters(task: str, **given: float) -> dict[str, float]:
    options = Options(method="toy", parameters=given)
    return dict(settings_for(TASKS[task].kind, options)[1].parameters)


def test_the_user_goes_before_the_kind_and_the_kind_before_the_default() -> None:
    assert _parameters("deblur") == {"step_size": 0.5, "jump": 3}
    assert _parameters("sr") == {"step_size": 0.5, "jump": 5}
    assert _parameters("sr", jump=7, step_size=0) == {"step_size": 0, "jump": 7}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"step_size": 2.5}, "`parameters`=step_size=2.5: must be a number from 0 to 2"),
        ({"step_size": float("nan")}, "step_size=nan: must be a number from 0 to 2"),
        ({"jump": 2.5}, "jump=2.5: must be a whole number from 1 to 10"),
        ({"length": 1}, "length: is not a parameter of toy; it takes step_size, jump"),
    ],
)
def test_what_is_refused(given: dict[str, float], text: str) -> None:
    with pytest.raises(BadArgument, match=text):
        _parameters("sr", **given)


def test_a_method_without_parameters_says_so() -> None:
    with pytest.raises(BadArgument, match="step: is not a parameter of ddrm; it takes none"):
        settings_for(TASKS["sr"].kind, Options(method="ddrm", parameters={"step": 1}))


def test_a_third_party_network_takes_none() -> None:
    with pytest.raises(BadArgument, match="`parameters`: a feed-forward network"):
        settings_for(TASKS["sr"].kind, Options(method="spandrel:x.pth", parameters={"step": 1}))


@pytest.mark.parametrize("text", ["", "step_size", "step_size=", "a=1,,b=2", "a=one", "a=1,a=2"])
def test_texts_that_are_no_parameters(text: str) -> None:
    with pytest.raises(BadArgument, match="`parameters`="):
        parsed(text)


def test_every_method_has_defaults_in_range() -> None:
    for method in METHODS.values():
        own = {one.name: one for one in method.parameters}
        for settings in (method.defaults, *method.by_kind.values(), *method.for_samples.values()):
            assert settings.parameters.keys() <= own.keys()
            for name, value in settings.parameters.items():
                own[name].checked(value)
        for one in method.parameters:
            one.checked(one.default)
