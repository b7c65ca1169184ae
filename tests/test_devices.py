"""Device correctness without a GPU: fake CUDA tensors raise wherever two devices meet."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import operators
import pretrained
from operators import Mask
from restore.denoiser import Condition, Denoiser, ModelConfig, build_denoiser
from restore.devices import choose_device, network_dtype
from restore.errors import BadArgument, Unavailable
from restore.schedule import noise_levels
from restore.solvers import ddrm, one_step, project, sr3

SHAPE = (3, 16, 24)
OPERATORS: dict[str, Callable[[], operators.SpectralOperator]] = {
    "identity": lambda: operators.identity(SHAPE),
    "gray": lambda: operators.gray(SHAPE),
    "down": lambda: operators.downsample(SHAPE, 2.5, kernel="lanczos"),
    "blur and down": lambda: operators.downsample(SHAPE, 4) @ operators.gaussian_blur(SHAPE, 1.0, boundary="zero"),
    "box": lambda: operators.box_blur(SHAPE, 3, boundary="circular"),
    "mask": lambda: Mask(SHAPE, torch.ones(SHAPE[1:])),
    "mask per picture": lambda: Mask(SHAPE, torch.ones(2, 1, *SHAPE[1:])),
}


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
            moved = {name: t if t is None else nn.Parameter(t, requires_grad=False) for name, t in moved.items()}
        setattr(module, kind, moved)
    return module


def _cuda(*shape: int) -> Tensor:
    return torch.empty(shape, device="cuda")


def _all_on_cuda(*tensors: Tensor) -> None:
    assert {t.device.type for t in tensors} == {"cuda"}


CHECKPOINT = pretrained.load("default")
CONFIG = ModelConfig.from_dict(CHECKPOINT.config)
BUILT = {dtype: build_denoiser(CONFIG, CHECKPOINT.state, "cpu", dtype) for dtype in (torch.float32, torch.bfloat16)}
BUILT_OPERATORS = {name: build() for name, build in OPERATORS.items()}
for built in BUILT_OPERATORS.values():
    assert built.singular_values is not None  # an SVD is computed on first use, with real numbers
LEVELS = noise_levels(BUILT[torch.float32].schedule, 3)


def _denoiser(mode: FakeTensorMode, dtype: torch.dtype = torch.float32) -> Denoiser:
    built = copy.copy(BUILT[dtype])
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
    x, y = _cuda(2, *SHAPE), _cuda(2, *operator.output_shape)
    s = operator.singular_values
    spectrum = s.expand(2, *s.shape[-3:])
    results = operator.A(x), operator.At(y), operator.pseudo_inverse(y), operator.Vt(x), operator.Ut(y)
    _all_on_cuda(*results, operator.V(spectrum), operator.U(spectrum), operator.inverse_singular_values())
    assert operator.V(spectrum).shape == x.shape
    assert operator.U(spectrum).shape == y.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("per_picture", [False, True])
def test_denoiser(dtype: torch.dtype, conditional: bool, per_picture: bool, fake: FakeTensorMode) -> None:
    denoise = _denoiser(fake, dtype)
    x = _cuda(2, 3, 13, 22)
    condition = Condition(_cuda(2, 3, 13, 22), _cuda(2, 1, 13, 22)) if conditional else None
    prediction = denoise(x, _cuda(2) if per_picture else 0.5, condition)
    _all_on_cuda(*prediction)
    assert prediction.clean.dtype == torch.float32


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("noise", ["zero", "number", "per picture"])
def test_ddrm(name: str, noise: str, fake: FakeTensorMode) -> None:
    operator, denoise = _on_fake_cuda(BUILT_OPERATORS[name], fake), _denoiser(fake)
    level = {"zero": 0.0, "number": 0.1, "per picture": _cuda(2)}[noise]
    y = _cuda(2, *operator.output_shape)
    result = ddrm(denoise, operator, y, level, LEVELS, generator=torch.Generator(), final_projection=True)
    _all_on_cuda(result, project(operator, result, y, level))
    assert result.shape == (2, *SHAPE)


@pytest.mark.parametrize("variance", ["posterior", "forward"])
def test_sr3(variance: str, fake: FakeTensorMode) -> None:
    condition = Condition(_cuda(2, *SHAPE), _cuda(2, 1, *SHAPE[1:]))
    denoise, generator = _denoiser(fake), torch.Generator()
    _all_on_cuda(
        sr3(denoise, condition, LEVELS, generator=generator, variance=variance),
        one_step(denoise, condition, LEVELS[0], generator=generator),
    )


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
    monkeypatch.setattr("restore.devices._cpu_has_bf16_units", lambda: True)
    assert network_dtype(torch.device("cpu")) == torch.bfloat16
    monkeypatch.setattr("restore.devices._cpu_has_bf16_units", lambda: False)
    assert network_dtype(torch.device("cpu")) == torch.float32


@pytest.mark.gpu
@pytest.mark.skipif(not (torch.cuda.is_available() or torch.backends.mps.is_available()), reason="no GPU here")
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
