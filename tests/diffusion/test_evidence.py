"""What a predictor is shown, against dense algebra and scikit-image; the same in training as for a
user's file.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch
from skimage import restoration
from torch import Tensor

import operators
from operators import kernels
from restore.diffusion import evidence
from restore.diffusion.evidence import (
    GREY,
    PRIOR_STD,
    QUANTISATION_NOISE,
    inverse_gain,
    known_fraction,
    noise_ratio,
    wiener,
)
from restore.diffusion.predictor import SHOWN
from restore.photo.photograph import read_photo
from restore.tasks import Colorization, Deblurring, Denoising, Inpainting, Solving, SuperResolution
from restore.tasks.inverse import evidence_of, has_evidence, impulse_response
from restore.training.degradations import Capture, Grey, Masked, Noise, Place


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """[1, 3, 96, 96] in [0, 1], in 8 bits."""
    pixels = read_photo("tests/fixtures/crop_a.png").pixels[:96, :96]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]


def dense(operator: operators.LinearOperator) -> np.ndarray:
    """The matrix of an operator, float64."""
    size = int(np.prod(operator.input_shape))
    basis = torch.eye(size).reshape(size, *operator.input_shape)
    return operator.A(basis).reshape(size, -1).T.double().numpy()


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.2])
def test_down_sampling_is_inverted_as_the_dense_minimiser_says(noise: float) -> None:
    problem = SuperResolution(3, noise=noise).problem(torch.rand(1, 3, 4, 5))
    found = evidence_of(problem, "inverse")
    operator = dense(problem.operator)
    operator /= np.linalg.norm(operator, 2)
    ratio = (2 * max(noise, QUANTISATION_NOISE) / PRIOR_STD) ** 2
    gram = operator.T @ operator
    largest = np.linalg.norm(dense(problem.operator), 2)
    y = problem.model_measurement.flatten().double().numpy() / largest
    solved = np.linalg.solve(gram + ratio * np.eye(len(gram)), operator.T @ y) * (1 + ratio)
    explained = np.trace(np.linalg.solve(gram + ratio * np.eye(len(gram)), gram)) / len(gram)
    assert found.picture.flatten().numpy() == pytest.approx(
        solved, abs=2e-3 if noise == 0 else 1e-5
    )
    assert found.known.unique().item() == pytest.approx(explained, rel=1e-4)
    assert found.noise.unique().item() == pytest.approx(2 * max(noise, QUANTISATION_NOISE))


def test_the_known_fraction_of_clean_down_sampling_is_that_of_the_pixels() -> None:
    for scale in (2, 4, 8):
        found = evidence_of(SuperResolution(scale).problem(torch.rand(1, 3, 8, 8)))
        assert float(found.known[0, 0, 0, 0]) == pytest.approx(1 / scale**2, rel=0.02)


def test_gains_pass_the_best_component_and_drop_the_lost_ones() -> None:
    s = torch.tensor([0.25, 0.1, 0.0])
    ratio = torch.tensor(0.04)
    gain = inverse_gain(s, ratio)
    assert gain[0] * s[0] == pytest.approx(1)
    assert gain[1] * s[1] < 1
    assert gain[2] == 0
    assert inverse_gain(s, torch.tensor(0.0))[:2].tolist() == pytest.approx([4, 10])
    assert float(known_fraction(s.reshape(1, 1, 3), torch.zeros(1), 6)) == pytest.approx(2 / 6)


@pytest.mark.parametrize("size", [(40, 52), (33, 1), (7, 90)])
def test_wiener_is_that_of_scikit_image_on_the_continued_picture(size: tuple[int, int]) -> None:
    kernel = kernels.motion(7, 30)
    sigma = torch.tensor(0.05).reshape(1, 1, 1, 1)
    y = torch.rand(1, 3, *size) * 2 - 1
    ratio = noise_ratio(sigma)
    picture, known = wiener(y, kernel, ratio)

    rows, columns = (side + evidence.RIM for side in kernel.shape)
    full = [
        scipy.fft.next_fast_len(n + 2 * k, real=True)
        for n, k in zip(size, (rows, columns), strict=True)
    ]
    pad = [(k, f - n - k) for n, k, f in zip(size, (rows, columns), full, strict=True)]
    regulariser = np.sqrt(evidence._inverse_power(tuple(full)).double().numpy()).astype(complex)
    balance = float(ratio + noise_ratio(evidence.BORDER_ERROR))
    for channel in range(3):
        continued = np.pad(y[0, channel].double().numpy(), pad, mode="edge")
        theirs = restoration.wiener(continued, kernel, balance, reg=regulariser, clip=False)
        theirs = theirs[rows : rows + size[0], columns : columns + size[1]]
        assert picture[0, channel].numpy() == pytest.approx(theirs, abs=1e-4)
    assert 0 < float(known) < 1


def test_wiener_keeps_constants_and_sharpens(photo: Tensor) -> None:
    kernel = kernels.gaussian(1.5)
    ratio = noise_ratio(torch.tensor(0.005)).reshape(1, 1, 1, 1)
    constant, _ = wiener(torch.full((1, 3, 20, 30), 0.7), kernel, ratio)
    assert constant.numpy() == pytest.approx(0.7, abs=1e-5)
    x = 2 * photo - 1
    operator = operators.ValidConvolution(
        (3, 96 - kernel.shape[0] + 1, 96 - kernel.shape[1] + 1), kernel
    )
    y = operator.A(x)
    picture, _ = wiener(y, kernel, ratio)
    truth = operator.crop(x)
    assert (picture - truth).square().mean() < 0.5 * (y - truth).square().mean()


def test_kernels_of_a_batch_are_each_picture_s_own() -> None:
    pair = np.random.default_rng(0).random((2, 5, 3))
    pair /= pair.sum(axis=(1, 2), keepdims=True)
    y = torch.rand(2, 3, 24, 24)
    ratio = torch.tensor([0.01, 0.1]).reshape(2, 1, 1, 1)
    together, known = wiener(y, pair, ratio)
    for index in range(2):
        alone, known_alone = wiener(y[[index]], pair[index], ratio[[index]])
        assert together[index].numpy() == pytest.approx(alone[0].numpy(), abs=1e-5)
        assert float(known[index]) == pytest.approx(float(known_alone))


@pytest.mark.parametrize("boundary", ["circular", "symmetric", "replicate", "zero"])
def test_impulse_responses_are_the_kernels(boundary: str) -> None:
    kernel = kernels.gaussian(1.2, 0.6, 20) if boundary != "symmetric" else kernels.gaussian(1.2)
    operator = operators.convolution((3, 31, 36), kernel, boundary)
    (found,) = impulse_response(operator)
    y, x = ((a - b) // 2 for a, b in zip(kernel.shape, found.shape, strict=True))
    inside = kernel[y : kernel.shape[0] - y or None, x : kernel.shape[1] - x or None]
    assert found == pytest.approx(inside, abs=2e-4 * kernel.max())


def test_impulse_responses_of_a_batch_are_each_picture_s_own() -> None:
    pair = np.zeros((2, 5, 5))
    pair[0, 2], pair[1, :, 2] = 0.2, 0.2
    operator = operators.CircularConvolution((3, 20, 22), pair)
    assert impulse_response(operator, 2) == pytest.approx(pair, abs=1e-5)


def test_kernels_that_wipe_out_the_mean_have_an_inverse() -> None:
    laplacian = np.array([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
    picture, known = wiener(
        torch.rand(1, 3, 20, 20), laplacian, noise_ratio(torch.tensor(0.01)).reshape(1, 1, 1, 1)
    )
    assert bool(torch.isfinite(picture).all())
    assert 0 < float(known) < 1


@pytest.mark.parametrize("shown", SHOWN)
@pytest.mark.parametrize("kind", ["bicubic", "area", "noisy", "motion", "noise", "mask", "grey"])
def test_training_shows_what_a_user_s_file_shows(photo: Tensor, kind: str, shown: str) -> None:
    """A region that is the whole photograph: a file of it, restored, gives the predictor what its
    training gave.
    """
    region = photo[0]
    random = np.random.default_rng(0)
    place = Place(96, 0, 0, 96)
    if kind == "mask":
        known = torch.rand(96, 96) < 0.5
        degradation = Masked(place, Noise(), known)
    elif kind == "grey":
        degradation = Grey(place, Noise())
    elif kind == "noise":
        degradation = Capture(place, Noise(0.1))
    elif kind == "motion":
        kernel = kernels.motion(9, 30)
        reach = [side // 2 for side in kernel.shape]
        degradation = Capture(
            Place(96, reach[0], reach[1], 96 - 2 * max(reach)), Noise(0.01), kernel
        )
    else:
        noise = Noise(0.05) if kind == "noisy" else Noise()
        degradation = Capture(place, noise, None, 24, "bicubic" if kind == "noisy" else kind)
    measured = degradation.measured(region, random)
    level = degradation.noise.level
    problem = {
        "mask": lambda: Inpainting(~degradation.known, noise=level).problem(measured[None]),
        "grey": lambda: Colorization(noise=level).problem(measured[None]),
        "noise": lambda: Denoising(level).problem(measured[None]),
        "motion": lambda: Deblurring(degradation.kernel, noise=level).problem(measured[None]),
    }.get(
        kind,
        lambda: SuperResolution(
            4, noise=level, kernel="area" if kind == "area" else "bicubic"
        ).problem(measured[None]),
    )()
    trained = degradation.evidence(measured, shown)
    found = evidence_of(problem, shown)
    if kind == "motion":
        side = trained.picture.shape[-1]
        found = evidence.Evidence(*(part[..., :side, :side] for part in found))
    for name, one, other in zip(found._fields, found, trained, strict=True):
        assert one[0].numpy() == pytest.approx(other.numpy(), abs=2e-3), name


def test_maps_of_masks_and_grey(photo: Tensor) -> None:
    mask = torch.zeros(96, 96, dtype=torch.bool)
    mask[10:20] = True
    found = evidence_of(Inpainting(mask).problem(photo))
    assert found.known[0, 0, 10:20].unique().tolist() == [0]
    assert found.known[0, 0, :10].unique().item() == pytest.approx(1, abs=1e-3)
    assert not found.picture[..., 10:20, :].any()
    assert float(evidence_of(Colorization().problem(photo)).known.max()) == pytest.approx(
        GREY, abs=1e-3
    )


def test_each_picture_of_a_batch_has_its_own_noise(photo: Tensor) -> None:
    small = torch.rand(2, 3, 12, 10)
    together = evidence_of(SuperResolution(2, noise=[0.01, 0.2]).problem(small))
    for index, level in enumerate((0.01, 0.2)):
        alone = evidence_of(SuperResolution(2, noise=level).problem(small[[index]]))
        for one, other in zip(together, alone, strict=True):
            assert one[index].numpy() == pytest.approx(other[0].numpy(), abs=1e-5)


def test_what_predictors_do_not_know_has_no_evidence(photo: Tensor) -> None:
    assert not has_evidence(Solving("jpeg:30").problem(photo))
    assert has_evidence(Solving("down:bicubic:2").problem(photo[..., :48, :48]))
