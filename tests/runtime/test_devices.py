"""Device correctness without a GPU: fake CUDA tensors raise wherever two devices meet."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support.networks import random_denoiser, tiny
from support.operator_table import TABLE, pictures_of
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import operators
import pretrained
from operators import Mask, kernels, masks
from restore.diffusion.denoiser import Condition, Denoiser, ModelConfig, build_denoiser
from restore.diffusion.schedule import noise_levels
from restore.errors import BadArgument, Unavailable
from restore.restorer import Restorer
from restore.runtime.budget import SOLVER_BYTES, Budget
from restore.runtime.devices import (
    choose_device,
    free_memory,
    is_out_of_memory,
    network_dtype,
    release_memory,
    used_memory,
)
from restore.runtime.tiles import TiledDenoiser
from restore.solvers import ddrm, one_step, project, sr3
from restore.tasks import TASKS

SHAPE = (3, 16, 24)
OPERATORS: dict[str, Callable[[], operators.SpectralOperator]] = {
    "identity": lambda: operators.identity(SHAPE),
    "gray": lambda: operators.gray(SHAPE),
    "down": lambda: operators.downsample(SHAPE, 2.5, kernel="lanczos"),
    "blur and down": lambda: (
        operators.downsample(SHAPE, 4) @ operators.gaussian_blur(SHAPE, 1.0, boundary="zero")
    ),
    "box": lambda: operators.box_blur(SHAPE, 3, boundary="circular"),
    "mask": lambda: Mask(SHAPE, torch.ones(SHAPE[1:])),
    "mask per picture": lambda: Mask(SHAPE, torch.ones(2, 1, *SHAPE[1:])),
    "mirrored blur": lambda: operators.gaussian_blur(SHAPE, 0.7, boundary="mirror"),
    "circular convolution": lambda: operators.CircularConvolution(SHAPE, kernels.motion(5, 20)),
    "circular convolution per picture": lambda: operators.CircularConvolution(SHAPE, KERNELS),
    "symmetric convolution": lambda: operators.SymmetricConvolution(SHAPE, kernels.disk(1.5)),
    "symmetric convolution per picture": lambda: operators.SymmetricConvolution(SHAPE, KERNELS),
    "Hadamard": lambda: operators.Hadamard(SHAPE, 0.3),
    "block sensing": lambda: operators.BlockSensing(SHAPE, 0.3, block=10),
    "mosaic": lambda: operators.Bayer(SHAPE, "GBRG"),
    "colour mix": lambda: operators.color_mix(SHAPE, [[0.5, 0.5, 0.0], [0.0, 0.3, 0.7]]),
    "masked colour": lambda: operators.MaskedColor(SHAPE, [[0.2, 0.7, 0.1]], _known()),
    "masked colour per picture": lambda: operators.MaskedColor(
        SHAPE, [[0.2, 0.7, 0.1]], _known(2, 1)
    ),
    "composed masks": lambda: Mask(SHAPE, _known()) @ Mask(SHAPE, _known(3)),
    "batch of different kinds": lambda: operators.batch_of(
        [operators.CircularConvolution(SHAPE, KERNELS[0]), Mask(SHAPE, _known())]
    ),
    "published blur": lambda: operators.ddrm_reference("deblur_aniso", SHAPE),
    "published blur, mixed": lambda: operators.ddrm_reference(
        "deblur_uni", SHAPE, mixed_spectrum=True
    ),
}
WITHOUT_SVD: dict[str, Callable[[], operators.LinearOperator]] = {
    "valid convolution": lambda: operators.ValidConvolution(SHAPE, kernels.disk(1.5)),
    "valid convolution per picture": lambda: operators.ValidConvolution(SHAPE, KERNELS),
    "padded convolution": lambda: operators.PaddedConvolution(
        SHAPE, kernels.motion(5, 20), "mirror"
    ),
    "padded convolution per picture": lambda: operators.PaddedConvolution(SHAPE, KERNELS, "zero"),
    "mask after convolution": lambda: (
        Mask(SHAPE, _known()) @ operators.CircularConvolution(SHAPE, KERNELS[0])
    ),
    "mosaic after blur, preconditioned": lambda: (
        operators.Bayer(SHAPE) @ operators.gaussian_blur(SHAPE, 0.4)
    ),
    "blur after mask, preconditioned": lambda: (
        operators.gaussian_blur(SHAPE, 0.4) @ Mask(SHAPE, masks.box(SHAPE[1:], 4, 4))
    ),
    "Hadamard after mask after blur": lambda: (
        operators.Hadamard(SHAPE, 0.5) @ Mask(SHAPE, _known()) @ operators.gaussian_blur(SHAPE, 0.5)
    ),
    "after an own operator": lambda: operators.downsample(SHAPE, 2) @ Fringe(SHAPE),
    "own operator": lambda: Fringe(SHAPE),
    "batch": lambda: operators.batch_of(
        [Fringe(SHAPE), Mask(SHAPE, _known()) @ operators.gaussian_blur(SHAPE, 0.5)]
    ),
}


class Fringe(operators.IterativeOperator):
    """The channels weighted by a buffer and shifted, as somebody else may write it."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(shape, shape)
        self.register_buffer("weights", torch.linspace(0.5, 1, shape[0])[:, None, None])

    def A(self, x: Tensor) -> Tensor:
        return self.weights * x.roll(1, -1)

    def At(self, y: Tensor) -> Tensor:
        return (self.weights * y).roll(-1, -1)


KERNELS = np.stack([kernels.gaussian(0.5), kernels.box(5)])


def _known(*leading: int) -> Tensor:
    return torch.rand(*leading, *SHAPE[1:], generator=torch.Generator().manual_seed(0)) < 0.6


def _half(size: tuple[int, int]) -> Tensor:
    return torch.arange(size[1]).expand(size) < size[1] // 2


@pytest.fixture
def fake():
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode


def _on_fake_cuda(module: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """A copy whose parameters and buffers are fake tensors on a CUDA device."""
    module = copy.copy(module)
    module._modules = {name: m and _on_fake_cuda(m, mode) for name, m in module._modules.items()}
    for kind in ("_parameters", "_buffers"):
        moved = {
            name: None if t is None else mode.from_tensor(t, static_shapes=True).to("cuda")
            for name, t in getattr(module, kind).items()
        }
        if kind == "_parameters":
            moved = {
                name: t if t is None else nn.Parameter(t, requires_grad=False)
                for name, t in moved.items()
            }
        setattr(module, kind, moved)
    return module


def _cuda(*shape: int) -> Tensor:
    return torch.empty(shape, device="cuda")


def _all_on_cuda(*tensors: Tensor) -> None:
    assert {t.device.type for t in tensors} == {"cuda"}


CHECKPOINT = pretrained.load("default")
CONFIG = ModelConfig.from_dict(CHECKPOINT.config)
BUILT = {
    dtype: build_denoiser(CONFIG, CHECKPOINT.state, "cpu", dtype)
    for dtype in (torch.float32, torch.bfloat16)
}
SMALL = random_denoiser(tiny(channel_multipliers=(1,)))
OF_ONE_SIZE = random_denoiser(tiny(16, attention_factors=(2,), learned_variance=True, classes=3))
BUILT_OPERATORS = {name: build() for name, build in OPERATORS.items()}
for built in BUILT_OPERATORS.values():
    assert built.singular_values is not None  # an SVD is computed on first use, with real numbers
BUILT_FUNCTION = operators.FunctionOperator(Fringe(SHAPE), SHAPE)
BUILT_WITHOUT_SVD = {name: build() for name, build in WITHOUT_SVD.items()}
for built in BUILT_WITHOUT_SVD.values():
    built.iterations = built.max_iterations = 2
    built.pseudo_inverse(
        torch.zeros(2, *built.output_shape)
    )  # preconditioners are chosen on first use
LEVELS = noise_levels(BUILT[torch.float32].schedule, 2)


def _moved(denoiser: Denoiser, mode: FakeTensorMode) -> Denoiser:
    built = copy.copy(denoiser)
    built.network = _on_fake_cuda(built.network, mode)
    return built


def test_fake_mode_finds_a_mix_of_devices(fake: FakeTensorMode) -> None:
    """What the tests below rely on."""
    with pytest.raises(RuntimeError, match="device"):
        _cuda(3) + torch.empty(3)
    operator = _on_fake_cuda(BUILT_OPERATORS["down"], fake)
    with pytest.raises(RuntimeError, match="device"):
        operator.A(torch.empty(1, *SHAPE))


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name: str, fake: FakeTensorMode) -> None:
    operator = _on_fake_cuda(BUILT_OPERATORS[name], fake)
    x = _cuda(2, *SHAPE)
    y = _cuda(2, *operator.output_shape)
    s = operator.singular_values
    spectrum = s.expand(2, *s.shape[-3:])
    results = (
        operator.A(x),
        operator.At(y),
        operator.pseudo_inverse(y),
        operator.Vt(x),
        operator.Ut(y),
    )
    _all_on_cuda(
        *results, operator.V(spectrum), operator.U(spectrum), operator.inverse_singular_values()
    )
    assert operator.V(spectrum).shape == x.shape
    assert operator.U(spectrum).shape == y.shape


@pytest.mark.parametrize("name", WITHOUT_SVD)
def test_operators_without_an_svd(name: str, fake: FakeTensorMode) -> None:
    operator = _on_fake_cuda(BUILT_WITHOUT_SVD[name], fake)
    x = _cuda(2, *operator.input_shape)
    y = _cuda(2, *operator.output_shape)
    _all_on_cuda(operator.A(x), operator.At(y), operator.visible(x))
    assert operator.A(x).shape == y.shape
    assert operator.At(y).shape == x.shape


@pytest.mark.parametrize("name", WITHOUT_SVD)
def test_iterative_pseudo_inverse(name: str, fake: FakeTensorMode) -> None:
    operator = _on_fake_cuda(BUILT_WITHOUT_SVD[name], fake)
    x = operator.pseudo_inverse(_cuda(2, *operator.output_shape))
    _all_on_cuda(x)
    assert x.shape == (2, *operator.input_shape)


def test_an_operator_from_a_function(fake: FakeTensorMode) -> None:
    """Forwards; differentiation of fake tensors needs a device, where the test of the GPU below has
    the adjoint.
    """
    moved = _on_fake_cuda(BUILT_FUNCTION, fake)
    assert {buffer.device.type for buffer in moved.buffers()} == {"cuda"}
    _all_on_cuda(moved.A(_cuda(2, *SHAPE)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("per_picture", [False, True])
def test_denoiser(
    dtype: torch.dtype, conditional: bool, per_picture: bool, fake: FakeTensorMode
) -> None:
    denoise = _moved(BUILT[dtype], fake)
    x = _cuda(2, 3, 13, 22)
    condition = Condition(_cuda(2, 3, 13, 22), _cuda(2, 1, 13, 22)) if conditional else None
    prediction = denoise(x, _cuda(2) if per_picture else 0.5, condition)
    _all_on_cuda(prediction.clean, prediction.noise)
    assert prediction.clean.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "noise"),
    [
        *((name, noise) for name in OPERATORS for noise in ("zero", "per picture")),
        *((name, "number") for name in ("down", "mask per picture", "batch of different kinds")),
    ],
)
def test_ddrm(name: str, noise: str, fake: FakeTensorMode) -> None:
    operator = _on_fake_cuda(BUILT_OPERATORS[name], fake)
    denoise = _moved(SMALL, fake)
    level = {"zero": 0.0, "number": 0.1, "per picture": _cuda(2)}[noise]
    y = _cuda(2, *operator.output_shape)
    result = ddrm(
        denoise, operator, y, level, LEVELS, generator=torch.Generator(), final_projection=True
    )
    _all_on_cuda(result, project(operator, result, y, level))
    assert result.shape == (2, *SHAPE)


@pytest.mark.parametrize("variance", ["posterior", "forward"])
def test_sr3(variance: str, fake: FakeTensorMode) -> None:
    condition = Condition(_cuda(2, *SHAPE), _cuda(2, 1, *SHAPE[1:]))
    denoise = _moved(BUILT[torch.float32], fake)
    generator = torch.Generator()
    _all_on_cuda(
        sr3(denoise, condition, LEVELS, generator=generator, variance=variance),
        one_step(denoise, condition, LEVELS[0], generator=generator),
    )


@pytest.mark.parametrize("size", [(24, 40), (150, 200)])
@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("place", ["cpu", "cuda"])
def test_tiles_travel_and_come_back(
    size: tuple[int, int], conditional: bool, place: str, fake: FakeTensorMode
) -> None:
    """The network is on a GPU; what it answers is where the picture is."""
    seen: list[str] = []
    denoise = _moved(BUILT[torch.float32], fake)
    denoise.network.register_forward_pre_hook(lambda _, given: seen.append(given[0].device.type))
    x = torch.empty(2, 3, *size, device=place)
    levels = torch.empty(2, device=place)
    condition = (
        Condition(torch.empty_like(x), torch.empty(2, 1, *size, device=place))
        if conditional
        else None
    )
    prediction = TiledDenoiser(denoise, 128, 32)(x, levels, condition)
    assert {part.device.type for part in prediction[:2]} == {place}
    assert {part.shape for part in prediction[:2]} == {x.shape}
    assert set(seen) == {"cuda"}
    assert len(seen) == (1 if size == (24, 40) else 6)


@pytest.mark.parametrize("size", [(10, 16), (20, 30)])
@pytest.mark.parametrize("place", ["cpu", "cuda"])
def test_classes_and_learned_variance_in_tiles_of_one_size(
    size: tuple[int, int], place: str, fake: FakeTensorMode
) -> None:
    denoise = _moved(OF_ONE_SIZE, fake)
    x = torch.empty(2, 3, *size, device=place)
    prediction = TiledDenoiser(denoise).of_class(1)(x, 0.5)
    assert {part.device.type for part in prediction[:3]} == {place}
    assert {part.shape for part in prediction[:3]} == {x.shape}


@pytest.mark.parametrize(
    ("memory", "place"),
    [(16 * 24 * 2 * SOLVER_BYTES, "cuda"), (8 * 12 * 2 * SOLVER_BYTES - 2, "cpu")],
)
@pytest.mark.parametrize(
    ("task", "arguments"),
    [
        ("sr", {"scale": 2}),
        ("inpaint", {"mask": _half((8, 12)), "dilate": 1}),
        ("deblur", {"kernel": "box:3", "noise": 0.0}),
        ("denoise", {"noise": 0.1}),
        ("colorize", {}),
        ("solve", {"operator": "down:bicubic:2", "noise": 0.0}),
        ("solve", {"operator": "hadamard:0.5", "noise": 0.0, "size": (24, 16)}),
    ],
)
def test_a_picture_that_is_too_large_for_the_device_stays_on_the_host(
    task: str,
    arguments: dict[str, Any],
    memory: int,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
    loaded_once: None,
) -> None:
    """Results of 16×24 pixels fit the larger memory, results of 8×12 do not fit the smaller one."""
    restorer = Restorer(device="cpu")
    asked = []
    restorer.device = torch.device("cuda")
    restorer.budget = Budget(memory, per_pixel=1000.0)
    monkeypatch.setattr(TASKS[task], "problem", lambda *_, device: asked.append(device))
    restorer.problem(TASKS[task](**arguments), torch.zeros(1, 3, 8, 12))
    assert asked == [torch.device(place)]


def test_errors_that_mean_that_memory_ran_out() -> None:
    def said(text: str) -> RuntimeError:
        return RuntimeError(text)

    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    )
    assert is_out_of_memory(said("MPS backend out of memory (MPS allocated: 8.1 GB)"))
    assert is_out_of_memory(
        said(
            "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: not enough memory: you tried"
        )
    )
    assert is_out_of_memory(said("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    assert not is_out_of_memory(
        said("The size of tensor a (3) must match the size of tensor b (4)")
    )
    assert not is_out_of_memory(ValueError("out of memory"))


def test_what_a_cpu_really_says_when_memory_runs_out() -> None:
    for hungry in (
        lambda: torch.empty(1 << 60),
        lambda: np.empty(1 << 50),
        lambda: bytearray(1 << 60),
    ):
        with pytest.raises((RuntimeError, MemoryError)) as caught:
            hungry()
        assert is_out_of_memory(caught.value)


def test_memory_of_this_machine() -> None:
    device = choose_device("cpu")
    block = torch.ones(25_000_000)
    taken = used_memory(device)
    assert 10**8 < taken < 10**11
    assert free_memory(device) > 10**8
    del block
    release_memory(device)
    assert used_memory(device) < taken - 90_000_000


def test_chosen_devices() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    for name in ("gpu", "cuda:x", "meta"):
        with pytest.raises(BadArgument, match=r"auto, cpu, cuda, cuda:N or mps"):
            choose_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_missing_cuda_is_an_error() -> None:
    with pytest.raises(Unavailable, match="no such CUDA device"):
        choose_device("cuda")


def test_dtype_of_a_cpu_follows_its_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restore.runtime.devices._cpu_has_bf16_units", lambda: True)
    assert network_dtype(torch.device("cpu")) == torch.bfloat16
    monkeypatch.setattr("restore.runtime.devices._cpu_has_bf16_units", lambda: False)
    assert network_dtype(torch.device("cpu")) == torch.float32


@pytest.mark.gpu
@pytest.mark.skipif(
    not (torch.cuda.is_available() or torch.backends.mps.is_available()), reason="no GPU here"
)
@pytest.mark.parametrize("name", OPERATORS)
def test_gpu_agrees_with_cpu(name: str) -> None:
    """The same seed gives the same picture on every device, up to rounding (float32)."""
    results = []
    for device in (torch.device("cpu"), choose_device("auto")):
        operator = OPERATORS[name]().to(device)
        denoise = build_denoiser(CONFIG, CHECKPOINT.state, device)
        y = operator.A(torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0)).to(device))
        with torch.inference_mode():
            x = ddrm(denoise, operator, y, 0.1, LEVELS, generator=torch.Generator().manual_seed(1))
        results.append(x.cpu())
    torch.testing.assert_close(*results, rtol=0, atol=2e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("name", TABLE)
def test_every_operator_on_a_gpu(name: str) -> None:
    """Every map in float64, adjoints of functions included."""
    operator = TABLE[name].largest(torch.float64)
    count = pictures_of(operator)
    draw = torch.Generator().manual_seed(0)
    x, y = (
        torch.randn(count, *s, generator=draw).double()
        for s in (operator.input_shape, operator.output_shape)
    )
    given = {"A": x, "At": y, "pseudo_inverse": y}
    if operator.has_svd:
        spectrum = torch.randn(count, *operator.singular_values.shape[-3:], generator=draw).double()
        given |= {"Vt": x, "Ut": y, "V": spectrum, "U": spectrum}
    expected = {name: getattr(operator, name)(value) for name, value in given.items()}
    operator.to("cuda")
    for part, value in given.items():
        found = getattr(operator, part)(value.to("cuda"))
        _all_on_cuda(found)
        allowed = 1e-7 * float(expected[part].abs().max())
        torch.testing.assert_close(found.cpu(), expected[part], rtol=0, atol=allowed, msg=part)
