"""Composed, user-made and per-picture operators, and the iterative solvers below them, against
dense algebra.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import operators
from operators import (
    AxesOperator,
    BatchOperator,
    Composition,
    FunctionOperator,
    IterativeOperator,
    LinearOperator,
    Mask,
    adjoint_of,
    batch_of,
    check,
    compose,
    conjugate_gradient,
    dense_matrix,
    least_squares,
)
from operators.batch import SpectralBatchOperator

SHAPE = (3, 6, 5)
TOLERANCES = [(torch.float32, 1e-4), (torch.float64, 1e-8)]


def _known(shape: tuple[int, ...], share: float = 0.6) -> Tensor:
    known = torch.rand(shape, generator=torch.Generator().manual_seed(3)) < share
    known.view(-1)[0] = True
    return known


def _blur(dtype: torch.dtype, sigma: float = 0.5) -> AxesOperator:
    return operators.gaussian_blur(SHAPE, sigma, dtype=dtype)


def _mask(dtype: torch.dtype, share: float = 0.6) -> Mask:
    return Mask(SHAPE, _known(SHAPE[1:], share), dtype=dtype)


def _picture(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Twice(IterativeOperator):
    """The least that an iterative operator needs: A and At."""

    def A(self, x: Tensor) -> Tensor:
        return torch.cat([x, 2 * x.flip(-1)], dim=1)

    def At(self, y: Tensor) -> Tensor:
        first, second = y.chunk(2, dim=1)
        return first + 2 * second.flip(-1)


COMPOSITIONS = {
    "mask after blur": lambda dtype: compose(_mask(dtype), _blur(dtype)),
    "mask after blur, preconditioned": lambda dtype: compose(_mask(dtype, 0.9), _blur(dtype)),
    "blur after mask": lambda dtype: compose(_blur(dtype), _mask(dtype)),
    "blur after mask, preconditioned": lambda dtype: compose(_blur(dtype), _mask(dtype, 0.9)),
    "down after mask": lambda dtype: compose(
        operators.downsample(SHAPE, 2, dtype=dtype), _mask(dtype, 0.9)
    ),
    "grey mask after down": lambda dtype: compose(
        Mask((1, 3, 3), _known((3, 3)), dtype=dtype),
        operators.gray((3, 3, 3), dtype=dtype)
        @ operators.downsample(SHAPE, 2, kernel="area", dtype=dtype),
    ),
    "blur, mask, blur": lambda dtype: compose(
        _blur(dtype, 0.4), compose(_mask(dtype), _blur(dtype, 0.4))
    ),
    "after a function": lambda dtype: compose(
        _mask(dtype), FunctionOperator(lambda x: x + 0.3 * x.flip(-1), SHAPE, dtype=dtype)
    ),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
@pytest.mark.parametrize(("dtype", "rtol"), TOLERANCES, ids=str)
def test_compositions_keep_every_promise(name: str, dtype: torch.dtype, rtol: float) -> None:
    operator = COMPOSITIONS[name](dtype)
    assert isinstance(operator, Composition)
    assert not operator.has_svd
    check(operator, rtol=rtol)


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_composition_against_dense_matrices(name: str) -> None:
    operator = COMPOSITIONS[name](torch.float64)
    dense = dense_matrix(operator)
    torch.testing.assert_close(dense, dense_matrix(operator.second) @ dense_matrix(operator.first))
    y = _picture(4, *operator.output_shape)
    expected = torch.linalg.pinv(dense, rtol=1e-10) @ y.flatten(1).mT
    result = operator.pseudo_inverse(y)
    torch.testing.assert_close(result, expected.mT.reshape(result.shape), rtol=1e-7, atol=1e-7)


def test_preconditioning_is_chosen_and_saves_iterations() -> None:
    def applications(operator: Composition) -> int:
        count = 0
        A = operator.A

        def counted(x: Tensor) -> Tensor:
            nonlocal count
            count += 1
            return A(x)

        operator.A = counted
        operator.pseudo_inverse(_picture(1, *shape))
        return count

    shape = (1, 12, 12)
    known = torch.ones(shape[1:])
    known[4:8, 4:8] = 0
    factors = (
        Mask(shape, known, dtype=torch.float64),
        operators.gaussian_blur(shape, 0.8, dtype=torch.float64),
    )
    for second, first in (factors, factors[::-1]):
        preconditioned = Composition(second, first)
        plain = Composition(second, first)
        assert preconditioned._known_side == ("range" if second is factors[0] else "null space")
        plain._known_side = "none"
        assert 4 * applications(preconditioned) < applications(plain)


def test_compose_keeps_an_svd_where_there_is_one() -> None:
    blur = _blur(torch.float64)
    mask = _mask(torch.float64)
    same = operators.identity(SHAPE)
    down = operators.downsample(SHAPE, 2, dtype=torch.float64)
    assert isinstance(compose(down, blur), AxesOperator)
    torch.testing.assert_close(dense_matrix(compose(down, blur)), dense_matrix(down @ blur))
    assert compose(same, mask) is mask
    assert compose(mask, same) is mask
    masks = compose(mask, Mask(SHAPE, _known(SHAPE), dtype=torch.float64))
    assert isinstance(masks, Mask)
    check(masks)


def test_compose_merges_neighbours_in_a_chain() -> None:
    blur = _blur(torch.float64)
    mask = _mask(torch.float64)
    down = operators.downsample(SHAPE, 2, dtype=torch.float64)
    left = compose(down, compose(blur, mask))
    right = compose(compose(mask, blur), blur)
    assert isinstance(left.second, AxesOperator)
    assert left.first is mask
    assert isinstance(right.first, AxesOperator)
    assert right.second is mask
    torch.testing.assert_close(
        dense_matrix(left), dense_matrix(down) @ dense_matrix(blur) @ dense_matrix(mask)
    )
    torch.testing.assert_close(
        dense_matrix(right), dense_matrix(mask) @ dense_matrix(blur) @ dense_matrix(blur)
    )


@pytest.mark.parametrize("make", [compose, Composition])
def test_factors_that_do_not_fit(make) -> None:
    with pytest.raises(ValueError, match=r"takes pictures of \(3, 6, 5\) .* gives \(3, 3, 3\)"):
        make(_mask(torch.float32), operators.downsample(SHAPE, 2))


def test_masks_of_a_batch_compose() -> None:
    masks = Mask(SHAPE, _known((2, 1, *SHAPE[1:]), 0.9), dtype=torch.float64)
    operator = compose(masks, _blur(torch.float64))
    y = _picture(2, *SHAPE)
    for i in range(2):
        alone = compose(
            Mask(SHAPE, masks.singular_values[i], dtype=torch.float64), _blur(torch.float64)
        )
        torch.testing.assert_close(operator.A(y)[i : i + 1], alone.A(y[i : i + 1]))
        torch.testing.assert_close(
            operator.pseudo_inverse(y)[i : i + 1], alone.pseudo_inverse(y[i : i + 1])
        )


# Iterative solvers


@pytest.mark.parametrize("preconditioned", [False, True])
def test_conjugate_gradient_solves_a_batch(preconditioned: bool) -> None:
    """A tridiagonal system of known inverse, with pictures of very different size and one that is
    zero.
    """
    n = 20
    K = 2.1 * torch.eye(n, dtype=torch.float64)
    K -= torch.diag(torch.ones(n - 1, dtype=torch.float64), 1) + torch.diag(
        torch.ones(n - 1, dtype=torch.float64), -1
    )
    K[0, 0] = 50
    b = (
        _picture(3, 1, 1, n)
        * torch.tensor([1e-6, 1e6, 0.0], dtype=torch.float64)[:, None, None, None]
    )
    precondition = (lambda r: r / K.diag()) if preconditioned else None
    x = conjugate_gradient(lambda v: v @ K, b, precondition=precondition, rtol=1e-12)
    for i in range(3):
        torch.testing.assert_close(x[i], torch.linalg.solve(K, b[i].mT).mT, rtol=1e-9, atol=0)


def test_conjugate_gradient_of_a_singular_system_has_least_norm() -> None:
    F = _picture(3, 8)
    K = F.mT @ F
    b = _picture(2, 1, 8) @ F.mT @ F
    x = conjugate_gradient(lambda v: v @ K, b, rtol=1e-12)
    torch.testing.assert_close(x, b @ torch.linalg.pinv(K, rtol=1e-10))


def test_a_batch_is_solved_picture_by_picture() -> None:
    """Hard pictures do not disturb easy ones, which are frozen when they are done."""
    operator = compose(_mask(torch.float64), _blur(torch.float64, 0.8))
    y = _picture(3, *SHAPE)
    y[0] = operator.A(operator.At(operator.A(torch.ones(1, *SHAPE, dtype=torch.float64))))[0]
    y[1] = 0
    together = operator.pseudo_inverse(y)
    alone = torch.cat([operator.pseudo_inverse(picture[None]) for picture in y])
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-9)
    assert not together[1].any()


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (7, 7)], ids=str)
def test_least_squares_of_any_matrix(shape: tuple[int, int]) -> None:
    """Wide, tall and rank-deficient ones, with a measurement outside the range."""
    M = _picture(*shape)
    M[:, -1] = M[:, 0]
    y = _picture(2, shape[0], seed=1)
    x = least_squares(lambda x: x @ M.mT, lambda y: y @ M, y, rtol=1e-13)
    torch.testing.assert_close(x, y @ torch.linalg.pinv(M, rtol=1e-10).mT)


def test_a_small_limit_of_iterations_is_kept() -> None:
    operator = compose(_mask(torch.float64), _blur(torch.float64, 0.8))
    y = _picture(1, *SHAPE)
    exact = operator.pseudo_inverse(y)
    operator.iterations = 3
    rough = operator.pseudo_inverse(y)
    assert 0 < float((rough - exact).norm()) < float(exact.norm())


def test_subclass_of_the_iterative_operator() -> None:
    check(Twice((1, 4, 3), (2, 4, 3)), rtol=1e-5)


# Operators from a function


class Smooth(nn.Module):
    """A convolution with a reflected border, which has no SVD here."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        kernel = torch.tensor([[0.0, 0.1, 0.0], [0.2, 0.6, 0.05], [0.0, 0.05, 0.0]], dtype=dtype)
        self.register_buffer("kernel", kernel.expand(3, 1, 3, 3).clone())

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(
            nn.functional.pad(x, (1, 1, 1, 1), mode="reflect"), self.kernel, groups=3
        )


FUNCTIONS = {
    "flip and halve": lambda dtype: lambda x: 0.5 * x.flip(-2),
    "mean over blocks": lambda dtype: lambda x: nn.functional.avg_pool2d(x, (2, 1)),
    "module": Smooth,
    "in place": lambda dtype: lambda x: x.clone().index_fill_(3, torch.tensor([1]), 0.0),
    "row sums": lambda dtype: lambda x: x.cumsum(-1),
    "Fourier": lambda dtype: lambda x: torch.fft.rfft2(x).real / 4,
    "zero": lambda dtype: lambda x: 0 * x,
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(("dtype", "rtol"), TOLERANCES, ids=str)
def test_functions_keep_every_promise(name: str, dtype: torch.dtype, rtol: float) -> None:
    operator = FunctionOperator(FUNCTIONS[name](dtype), SHAPE, dtype=dtype)
    check(operator, rtol=rtol)
    atol = 1e-6 if dtype == torch.float32 else 1e-14
    torch.testing.assert_close(
        dense_matrix(operator), _dense_adjoint(operator, dtype).mT, rtol=0, atol=atol
    )


def _dense_adjoint(operator: LinearOperator, dtype: torch.dtype) -> Tensor:
    size = torch.Size(operator.output_shape).numel()
    basis = torch.eye(size, dtype=dtype).reshape(size, *operator.output_shape)
    return operator.At(basis).reshape(size, -1).mT.double()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_adjoint_works_under_every_gradient_mode(mode) -> None:
    operator = FunctionOperator(Smooth(torch.float64), SHAPE, dtype=torch.float64)
    expected = operator.At(_picture(2, *SHAPE))
    with mode():
        y = _picture(2, *SHAPE)
        torch.testing.assert_close(operator.At(y), expected, rtol=0, atol=0)
        assert not operator.At(y).requires_grad
        operator.pseudo_inverse(y)


def test_gradients_flow_through_the_adjoint() -> None:
    operator = FunctionOperator(Smooth(torch.float64), SHAPE, dtype=torch.float64)
    y = _picture(1, *SHAPE).requires_grad_()
    weights = _picture(1, *SHAPE, seed=1)
    (operator.At(y) * weights).sum().backward()
    torch.testing.assert_close(y.grad, operator.A(weights))


def test_adjoint_alone() -> None:
    adjoint = adjoint_of(lambda x: x[..., ::2] * 3, (1, 2, 5))
    torch.testing.assert_close(
        adjoint(torch.ones(1, 1, 2, 3))[0, 0, 0], torch.tensor([3.0, 0, 3, 0, 3])
    )


NOT_LINEAR = {
    "offset": lambda x: x + 1e-2,
    "clipping": lambda x: x.clamp(-4, 4),
    "rounding": lambda x: (x * 255).round() / 255,
    "gamma": lambda x: x.abs() ** 1.1,
    "absolute": torch.abs,
    "random": lambda x: x * torch.rand(()),
    "mixing pictures": lambda x: x - x.mean(dim=0, keepdim=True),
    "normalising": lambda x: x / x.norm(),
    "not finite": lambda x: x / 0,
}


@pytest.mark.parametrize("name", NOT_LINEAR)
def test_functions_that_are_not_linear_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="the function is not linear: A"):
        FunctionOperator(NOT_LINEAR[name], SHAPE)


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda x: x.flatten(1), r"made shape \(2, 90\)"),
        (lambda x: x[:1], r"made shape \(1, 3, 6, 5\)"),
        (lambda x: (x, x), "made a tuple"),
    ],
    ids=["flat", "one picture", "tuple"],
)
def test_functions_that_do_not_give_pictures_are_refused(function, found: str) -> None:
    with pytest.raises(ValueError, match=f"must turn a batch of pictures .* {found}"):
        FunctionOperator(function, SHAPE)


def test_a_wrong_output_shape_is_refused() -> None:
    assert FunctionOperator(lambda x: x[..., 1:], SHAPE, (3, 6, 4)).output_shape == (3, 6, 4)
    with pytest.raises(ValueError, match=r"gives pictures of \(3, 6, 4\) .* not of \(3, 6, 5\)"):
        FunctionOperator(lambda x: x[..., 1:], SHAPE, SHAPE)


# One operator for each picture


def _different_blurs(dtype: torch.dtype = torch.float64) -> list[LinearOperator]:
    return [
        _blur(dtype, 0.4),
        _blur(dtype, 0.7),
        operators.box_blur(SHAPE, 3, boundary="zero", dtype=dtype),
    ]


def _different_kinds(dtype: torch.dtype = torch.float64) -> list[LinearOperator]:
    return [
        _mask(dtype),
        compose(_mask(dtype), _blur(dtype)),
        FunctionOperator(lambda x: 2 * x, SHAPE, dtype=dtype),
    ]


@pytest.mark.parametrize("make", [_different_blurs, _different_kinds])
def test_each_picture_has_its_operator(make) -> None:
    parts = make()
    batch = batch_of(parts)
    x = _picture(3, *SHAPE)
    for name in ("A", "At", "pseudo_inverse"):
        alone = torch.cat([getattr(part, name)(x[i : i + 1]) for i, part in enumerate(parts)])
        torch.testing.assert_close(getattr(batch, name)(x), alone, rtol=0, atol=0)
        for i, part in enumerate(parts):
            torch.testing.assert_close(
                _dense_of(batch, name, i, len(parts)), _dense_of(part, name, 0, 1)
            )


def _dense_of(operator: LinearOperator, name: str, picture: int, pictures: int) -> Tensor:
    """The matrix by which a map treats one picture of a batch."""
    basis = torch.eye(torch.Size(SHAPE).numel(), dtype=torch.float64).reshape(-1, 1, *SHAPE)
    columns = [
        getattr(operator, name)(e.expand(pictures, -1, -1, -1))[picture].flatten() for e in basis
    ]
    return torch.stack(columns, dim=1)


def test_a_batch_of_decompositions_is_a_decomposition() -> None:
    parts = [*_different_blurs(), Mask(SHAPE, _known((1, *SHAPE)), dtype=torch.float64)]
    batch = batch_of(parts)
    x = _picture(4, *SHAPE)
    assert isinstance(batch, SpectralBatchOperator)
    assert batch.has_svd
    assert batch.singular_values.shape == (4, *SHAPE)
    spectrum = batch.Vt(x)
    torch.testing.assert_close(batch.U(batch.singular_values * spectrum), batch.A(x))
    torch.testing.assert_close(
        batch.V(batch.inverse_singular_values() * batch.Ut(x)), batch.pseudo_inverse(x)
    )
    torch.testing.assert_close(batch.Ut(batch.U(spectrum)), spectrum)


def test_a_batch_without_a_common_decomposition() -> None:
    batch = batch_of(_different_kinds())
    assert type(batch) is BatchOperator
    assert not batch.has_svd
    thin = AxesOperator(SHAPE, None, torch.rand(2, 6).double().numpy(), None)
    short = AxesOperator((3, 2, 5), None, torch.rand(6, 2).double().numpy(), None) @ thin
    padded = compose(short, operators.identity(SHAPE))
    assert batch_of([padded, padded]).has_svd


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (list, "at least one"),
        (
            lambda: [_blur(torch.float32), operators.downsample(SHAPE, 2)],
            r"number 1 is \(3, 6, 5\) -> \(3, 3, 3\)",
        ),
        (
            lambda: [_blur(torch.float32), Mask(SHAPE, torch.ones(2, *SHAPE))],
            "number 1 is itself made for 2 pictures",
        ),
    ],
    ids=["none", "shapes", "batched"],
)
def test_operators_that_make_no_batch(parts, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batch_of(parts())


def test_spectral_batches_need_spectra_of_one_shape() -> None:
    with pytest.raises(ValueError, match="needs an SVD"):
        SpectralBatchOperator(_different_kinds())


@pytest.mark.parametrize("pictures", [1, 2, 4])
def test_a_batch_of_the_wrong_length(pictures: int) -> None:
    with pytest.raises(ValueError, match=f"3 operators need as many pictures, not {pictures}"):
        batch_of(_different_blurs()).A(_picture(pictures, *SHAPE))


# Devices


def _on_fake_cuda(module: nn.Module, mode: FakeTensorMode) -> nn.Module:
    module = copy.copy(module)
    module._modules = {name: m and _on_fake_cuda(m, mode) for name, m in module._modules.items()}
    module._buffers = {
        name: None if b is None else mode.from_tensor(b, static_shapes=True).to("cuda")
        for name, b in module._buffers.items()
    }
    return module


@pytest.mark.parametrize("name", [name for name in COMPOSITIONS if "function" not in name])
def test_compositions_on_another_device(name: str) -> None:
    built = COMPOSITIONS[name](torch.float32)
    built.iterations = 2
    built.pseudo_inverse(
        torch.zeros(1, *built.output_shape)
    )  # decompose what is needed, as fakes have no values
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        operator = _on_fake_cuda(built, mode)
        x, y = (
            torch.empty(2, *shape, device="cuda")
            for shape in (operator.input_shape, operator.output_shape)
        )
        for result in (operator.A(x), operator.At(y), operator.pseudo_inverse(y)):
            assert result.device.type == "cuda"


def test_batches_on_another_device() -> None:
    built = batch_of(_different_blurs(torch.float32))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        x = torch.empty(3, *SHAPE, device="cuda")
        batch = _on_fake_cuda(built, mode)
        for result in (
            batch.A(x),
            batch.At(x),
            batch.pseudo_inverse(x),
            batch.Vt(x),
            batch.singular_values,
        ):
            assert result.device.type == "cuda"


def test_a_function_that_is_a_module_moves_with_the_operator() -> None:
    """As far as that shows without a device: automatic differentiation of fake tensors needs a real
    one.
    """
    operator = FunctionOperator(Smooth(torch.float32), SHAPE).to(torch.float64)
    assert {buffer.dtype for buffer in operator.buffers()} == {torch.float64}
    check(operator, rtol=1e-8)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("name", COMPOSITIONS)
def test_gpu_agrees_with_cpu(name: str) -> None:
    operator = COMPOSITIONS[name](torch.float64)
    y = _picture(2, *operator.output_shape)
    expected = operator.pseudo_inverse(y)
    torch.testing.assert_close(operator.to("cuda").pseudo_inverse(y.to("cuda")).cpu(), expected)
