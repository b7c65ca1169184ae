"""`restore sample --guide`: classifier guidance of a prior, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.networks import classifier_file, random_file, tiny, tiny_classifier
from torch import Tensor

from restore.diffusion.classifier import Classifier
from restore.diffusion.guidance import classifier_guided
from restore.diffusion.stepping import within_pictures
from restore.errors import BadArgument
from restore.methods.sampling import Sampling, levels_of, sample_pictures
from restore.restorer import load_classifier, load_denoiser
from restore.samplers.ddim import ddim

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "prior": random_file(folder / "prior.safetensors", tiny()),
        "classes": random_file(folder / "classes.safetensors", tiny(classes=3)),
        "guide": classifier_file(
            folder / "guide.safetensors", tiny_classifier(16, names=("brick", "grass", "sky"))
        ),
        "any": classifier_file(folder / "any.safetensors", tiny_classifier()),
    }


@pytest.fixture(scope="module")
def classifier(files: dict[str, Path]) -> Classifier:
    return load_classifier(str(files["guide"]), CPU)


def test_the_step_and_the_scale_of_the_picture_are_those_of_the_schedule(
    classifier: Classifier,
) -> None:
    seen: list[Tensor] = []
    hook = classifier.network.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs))
    x = torch.ones(3, 3, 16, 16)
    sigmas = torch.from_numpy(classifier.schedule.sigmas[[0, 400, 999]]).float()
    classifier.log_probabilities(x, sigmas)
    hook.remove()

    torch.testing.assert_close(seen[1], torch.tensor([0.0, 400.0, 999.0]), rtol=1e-4, atol=1e-3)
    expected = torch.from_numpy(classifier.schedule.alphas_cumprod[[0, 400, 999]] ** 0.5).float()
    torch.testing.assert_close(seen[0][:, 0, 0, 0], expected)


def test_probabilities_of_all_classes_sum_to_one(classifier: Classifier) -> None:
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    log_p = classifier.log_probabilities(x, 0.5)
    torch.testing.assert_close(log_p.exp().sum(dim=1), torch.ones(2))
    assert torch.equal(classifier.of_class(1)(x, 0.5), log_p[:, 1])


def test_the_gradient_is_that_of_finite_differences(files: dict[str, Path]) -> None:
    classifier = load_classifier(str(files["any"]), CPU)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 3, 8, 8, generator=generator)
    step = torch.randn(x.shape, generator=generator)
    log_p = classifier.of_class(2)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(log_p(x, 1.0).sum(), x)

    ahead, behind = (float(log_p((x + h * step).detach(), 1.0)) for h in (1e-2, -1e-2))
    assert (ahead - behind) / 2e-2 == pytest.approx(float((gradient * step).sum()), rel=1e-2)


def test_samples_are_those_of_the_guided_denoiser(files: dict[str, Path]) -> None:
    """Clipped first and guided then, as the released sampler of ADM does."""
    denoise = load_denoiser(str(files["prior"]), CPU, torch.float32)
    guide = load_classifier(str(files["guide"]), CPU).of_class(1)
    options = {"count": 2, "height": 16, "width": 16, "sampler": "ddim", "steps": 4}
    found, _ = sample_pictures(denoise, Sampling(**options, guide=guide, guide_scale=3.0), CPU)
    plain, _ = sample_pictures(denoise, Sampling(**options), CPU)
    unscaled, _ = sample_pictures(denoise, Sampling(**options, guide=guide, guide_scale=0), CPU)

    sigmas = levels_of(denoise.schedule, Sampling(**options))
    generator = torch.Generator().manual_seed(0)
    x = sigmas[0] * torch.randn(2, 3, 16, 16, generator=generator)
    expected = ddim(classifier_guided(within_pictures(denoise), guide, 3.0), x, sigmas)
    torch.testing.assert_close(found, ((expected + 1) / 2).clamp(0, 1))
    assert torch.equal(unscaled, plain)
    assert not torch.equal(found, plain)


def _drawn(command, folder: Path, *words: object, code: int = 0) -> np.ndarray | str:
    out = folder / "out.png"
    outcome = command("sample", out, "--count", 1, "--steps", 3, "--overwrite", "-q", *words)
    assert outcome.code == code, outcome.err
    return outcome.err if code else np.asarray(Image.open(out)).astype(int)


def test_the_command_draws_of_a_class(command, files, tmp_path) -> None:
    words = ("--model", files["prior"], "--guide", files["guide"])
    brick, sky, strong = (
        _drawn(command, tmp_path, *words, "--class", label, "--guide-scale", scale)
        for label, scale in ((0, 1), (2, 1), (2, 5))
    )
    assert brick.shape == (16, 16, 3)  # the only size of the classifier
    assert (brick != sky).any()
    assert (sky != strong).any()
    assert np.array_equal(_drawn(command, tmp_path, *words, "--class", 2), sky)


def test_a_class_goes_to_a_model_of_classes_too(command, files, tmp_path) -> None:
    words = ("--model", files["classes"], "--size", "16x16", "--class", 1)
    guided = _drawn(command, tmp_path, *words, "--guide", files["any"], "--guide-scale", 0)
    assert np.array_equal(guided, _drawn(command, tmp_path, *words))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ("--guide", "guide"),
            1,
            "--class is missing: this classifier tells 3 classes apart, 0 brick, 1 grass, 2 sky",
        ),
        (("--guide", "guide", "--class", 3), 1, "--class 3: must be between 0 and 2"),
        (
            ("--guide", "guide", "--class", 1, "--size", "24x16"),
            1,
            "this classifier sees pictures of 16x16 alone, not 24x16",
        ),
        (("--guide-scale", 2), 1, "--guide-scale 2: is that of a classifier; --guide is missing"),
        (("--guide", "any", "--class", 1, "--guide-scale", -1), 1, "must be 0 or more"),
        (("--guide", "any", "--class", 1, "--guide-scale", "nan"), 1, "must be 0 or more"),
        (("--guide", "prior", "--class", 1), 3, "a model of pictures, and no classifier"),
        (("--guide", "nothing.pt", "--class", 1), 3, "--guide nothing.pt: no weights at"),
        (("--guide", "adm-classifer64"), 3, "did you mean adm-classifier64"),
        (("--guide", "any", "--from", "noise.safetensors"), 1, "--guide: not with --from"),
        (("--class", 1), 1, "--class 1: this model knows no classes"),
    ],
)
def test_refuses(command, files, tmp_path, words, code, said) -> None:
    words = [files.get(word, word) for word in words]
    assert said in _drawn(command, tmp_path, "--model", files["prior"], *words, code=code)
    assert not (tmp_path / "out.png").exists()


def test_a_classifier_is_no_model(command, files, tmp_path) -> None:
    said = _drawn(command, tmp_path, "--model", files["guide"], code=3)
    assert "guides a model and draws none itself; give it as --guide" in said


def test_options_are_checked_in_python_too() -> None:
    with pytest.raises(BadArgument, match="`guide` is missing"):
        Sampling(guide_scale=1.0)
    with pytest.raises(BadArgument, match="must be 0 or more"):
        Sampling(guide=lambda x, sigma: x.flatten(1).sum(1), guide_scale=math.inf)


def test_a_published_one_that_is_missing_is_not_fetched_unasked(
    command, files, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path / "cache"))
    said = _drawn(
        command, tmp_path, "--guide", "adm-classifier256", "--class", 1, "--size", "256x256", code=3
    )
    assert "--guide adm-classifier256: adm-classifier256 is not installed" in said
    assert "restore models get adm-classifier256 --yes downloads it" in said
