"""One table of every operator there is, and what all of them must keep at every size.

Other files compare each kind with libraries and with its definition; here nothing may be missing.
Other tests take the operators from this table too.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator

import pytest
import torch
from support.operator_table import NOT_SPECTRAL, TABLE, pictures_of, random_pictures

import operators
from operators import (
    AlongAxes,
    IterativeOperator,
    LinearOperator,
    SpectralOperator,
    check,
)
from operators.reference import REFERENCE_NAMES
from operators.sensing import OrthonormalRows


@pytest.mark.parametrize("name", TABLE)
def test_keeps_every_promise_at_every_size(name: str) -> None:
    """In float64 at every size, and in float32, whose rounding grows with it, at large ones."""
    case = TABLE[name]
    large = [size for size in case.sizes if case.fits(size)][:2]
    for size in case.sizes:
        if not case.fits(size):
            with pytest.raises(ValueError, match=case.refusal):
                case.at(size)
            continue
        precisions = {torch.float64: case.float64}
        if size in large:
            precisions[torch.float32] = case.float32
        for dtype, rtol in precisions.items():
            try:
                check(case.at(size, dtype), rtol)
            except AssertionError as error:
                raise AssertionError(f"{name} at {size} in {dtype}: {error}") from None


@pytest.mark.parametrize("name", TABLE)
def test_gradient_is_the_adjoint(name: str) -> None:
    """Guided solvers differentiate through A. What an operator computed in inference mode must not
    stand in the way.
    """
    operator = TABLE[name].largest(torch.float64)
    count = pictures_of(operator)
    x = random_pictures(count, *operator.input_shape)
    weights = random_pictures(count, *operator.output_shape, seed=1)
    with torch.inference_mode():
        results = operator.A(x), operator.At(weights), operator.pseudo_inverse(weights)
    x.requires_grad_()
    y = operator(x)
    torch.testing.assert_close(y, results[0].clone())
    if not y.requires_grad:
        pytest.fail("the gradient is lost")
    (gradient,) = torch.autograd.grad((y * weights).sum(), x)
    torch.testing.assert_close(gradient, operator.At(weights).detach())
    torch.testing.assert_close(gradient, results[1].clone())


@pytest.mark.parametrize("name", TABLE)
def test_follows_a_change_of_type(name: str) -> None:
    exact = TABLE[name].largest(torch.float64)
    operator = TABLE[name].largest(torch.float64).to(torch.float32)
    count = pictures_of(exact)
    x = random_pictures(count, *exact.input_shape)
    y = random_pictures(count, *exact.output_shape, seed=1)
    given = {"A": x, "At": y, "pseudo_inverse": y}
    if exact.has_svd:
        assert operator.singular_values.dtype == torch.float32
        spectrum = random_pictures(count, *exact.singular_values.shape[-3:], seed=2)
        given |= {"Vt": x, "Ut": y, "V": spectrum, "U": spectrum}
    for part, value in given.items():
        found = getattr(operator, part)(value.float())
        assert found.dtype == torch.float32, part
        if part in ("A", "At"):
            torch.testing.assert_close(
                found.double(), getattr(exact, part)(value), rtol=0, atol=2e-5
            )


@pytest.mark.parametrize("name", TABLE)
def test_leaves_its_arguments_alone_and_is_the_same_again(name: str) -> None:
    operator = TABLE[name].largest()
    count = pictures_of(operator)
    x, y = (
        random_pictures(count, *s, dtype=torch.float32)
        for s in (operator.input_shape, operator.output_shape)
    )
    kept = (x.clone(), y.clone())
    twin = copy.deepcopy(operator)
    first = operator.A(x), operator.At(y), operator.pseudo_inverse(y)
    second = twin.A(x), twin.At(y), twin.pseudo_inverse(y)
    assert torch.equal(x, kept[0])
    assert torch.equal(y, kept[1])
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", TABLE)
def test_the_visible_part_is_the_picture_without_an_unknown_border(name: str) -> None:
    operator = TABLE[name].largest()
    x = random_pictures(pictures_of(operator), *operator.input_shape, dtype=torch.float32)
    seen = operator.visible(x)
    if "valid convolution" in name:
        assert seen.shape[1:] == operator.output_shape
    else:
        assert torch.equal(seen, x)


# Nothing is missing


def _public_operators() -> set[type[LinearOperator]]:
    """Every class with an operator's maps that a module of `operators` defines under a public
    name.
    """

    def below(kind: type) -> Iterator[type]:
        for child in kind.__subclasses__():
            yield child
            yield from below(child)

    exported = {
        kind
        for kind in vars(operators).values()
        if inspect.isclass(kind) and issubclass(kind, LinearOperator)
    }
    defined = {kind for kind in below(LinearOperator) if kind.__module__.startswith("operators.")}
    return exported | {kind for kind in defined if not kind.__name__.startswith("_")}


def test_every_operator_is_in_the_table() -> None:
    found = {type(part) for case in TABLE.values() for part in case.largest().modules()}
    abstract = {LinearOperator, SpectralOperator, IterativeOperator, AlongAxes, OrthonormalRows}
    assert _public_operators() - found - abstract == set()


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("gaussian blur", operators.BOUNDARIES),
        ("down-sampling", operators.RESAMPLERS),
        ("mosaic", operators.BAYER_PATTERNS),
        ("padded convolution", operators.BOUNDARIES),
        ("reference", [name.partition(":")[0] for name in REFERENCE_NAMES]),
        (
            "circular convolution",
            [name.replace("_", " ") for name in ("gaussian", "motion", "curved_motion", "disk")],
        ),
        (
            "mask",
            ["random pixels", "strokes", "box", "border", "alternate rows", "checkerboard", "grid"],
        ),
    ],
)
def test_every_choice_is_in_the_table(kind: str, values: list[str]) -> None:
    assert [
        value
        for value in values
        if not any(name.startswith(kind) and value in name for name in TABLE)
    ] == []


def test_operators_with_and_without_an_svd_are_told_apart() -> None:
    for name, case in TABLE.items():
        operator = case.largest()
        assert operator.has_svd == isinstance(operator, SpectralOperator), name
    assert {name.split(",")[0] for name in NOT_SPECTRAL} == {
        "blur without an SVD",
        "down-sampling without an SVD",
        "valid convolution",
        "padded convolution",
        "composition",
        "function",
        "function that reduces",
        "batch of different kinds",
        "batch of valid convolutions",
        "batch of padded convolutions",
    }
