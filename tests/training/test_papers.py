"""The recipes of papers: EDM's and NCSN's objectives against the denoisers that they train."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from restore import Restorer
from restore.diffusion.denoiser import Condition, Denoiser, ModelConfig
from restore.diffusion.stepping import Step
from restore.errors import BadArgument
from restore.restorer import check_prior
from restore.tasks.deblur import Deblurring
from restore.tasks.sr import SuperResolution
from restore.training.losses import Terms
from restore.training.objective import Objective
from restore.training.recipe import default_model
from restore.training.recipe_file import PAPERS, read_recipe
from restore.training.trainer import Options, train


def _network(x: Tensor, time: Tensor) -> Tensor:
    """A network that sees its input and its time."""
    return torch.tanh(2 * x[:, :3]).roll(1, -1) + 0.3 * time.reshape(-1, 1, 1, 1).sin()


def _terms(name: str) -> tuple[ModelConfig, Terms, Tensor, Tensor, Tensor]:
    """Return model, losses, pictures, noisy pictures x0 + σ ε and σ of a paper's recipe."""
    recipe = read_recipe(Path(name))
    assert recipe.model is not None
    objective = Objective(recipe.model, recipe.objective)
    draw = torch.Generator().manual_seed(0)
    clean = torch.rand(200, 3, 8, 8, generator=draw) * 2 - 1
    noise = torch.randn(clean.shape, generator=draw)
    levels = objective.draw(torch.zeros(200, dtype=torch.bool), draw)
    nothing = Condition(torch.zeros_like(clean), torch.zeros_like(clean[:, :1]))
    terms = objective.terms(_network, clean, nothing, levels, noise)
    sigma = ((1 - levels.gamma) / levels.gamma).sqrt()[:, None, None, None]
    return recipe.model, terms, clean, clean + sigma * noise, sigma


def test_edm_weighs_the_error_of_the_clean_picture_as_its_table_1() -> None:
    """λ(σ) = (σ² + σ_data²)/(σ σ_data)², for the denoiser that samples, whose inputs are c_in x
    and c_noise = ¼ ln σ.
    """
    model, terms, clean, x, sigma = _terms("edm")
    found = Denoiser(_network, model)(x, sigma.flatten()).clean
    weight = (sigma**2 + 0.25) / (sigma * 0.5) ** 2
    expected = (weight * (found - clean) ** 2).mean(dim=(1, 2, 3))
    torch.testing.assert_close(terms.simple, expected, rtol=2e-3, atol=1e-4)


def test_edm_draws_log_normal_levels() -> None:
    sigma = _terms("edm")[-1]
    log = sigma.log().flatten()
    assert float(log.mean()) == pytest.approx(-1.2, abs=4 * 1.2 / 200**0.5)
    assert float(log.std()) == pytest.approx(1.2, rel=0.25)


def test_ncsn_matches_the_score_weighted_by_the_variance() -> None:
    """σ² ‖ŝ(x, σ) + ε/σ‖² (arXiv 1907.05600, eq. 5 and 6), with log σ uniform from 0.02 to 100."""
    model, terms, clean, x, sigma = _terms("ncsn")
    score = -Denoiser(_network, model)(x, sigma.flatten()).noise / sigma
    expected = (sigma**2 * (score + (x - clean) / sigma**2) ** 2).mean(dim=(1, 2, 3))
    torch.testing.assert_close(terms.simple, expected, rtol=2e-3, atol=1e-4)
    assert 0.02 <= float(sigma.min()) < 0.03
    assert 70 < float(sigma.max()) <= 100.1


@pytest.mark.parametrize(("name", "method"), [("sr3", "sr3"), ("i2sb", "i2sb")])
def test_models_of_conditions_alone_train_and_restore(tmp_path, name: str, method: str) -> None:
    """Their sheets show no denoising, and their models restore by the method of their paper."""
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels).save(tmp_path / "photos" / "a.png")
    text = (PAPERS / f"{name}.toml").read_text(encoding="utf-8")
    smaller = text.replace("channels = 48", "channels = 32").replace("batch = 32", "batch = 2")
    (tmp_path / "small.toml").write_text(smaller.replace("minutes = 10", "steps = 2"))

    done = train(
        Options(tmp_path / "run", tmp_path / "photos", tmp_path / "small.toml", device="cpu")
    )
    assert set(done.quality) == {"psnr x4"}
    restorer = Restorer(str(tmp_path / "run" / "model.safetensors"), "cpu")
    made = restorer.run(SuperResolution(2), pixels[:16, :16], steps=2)
    assert (made.report.method, made.report.steps) == (method, 2)
    seen: list[Step] = []
    made = restorer.run(Deblurring("gaussian:1"), pixels, steps=2, callback=seen.append)
    assert made.report.method == method
    assert [tuple(step.clean.shape) for step in seen] == [(1, 3, 48, 48)] * 2
    with pytest.raises(BadArgument, match="knows no pictures by themselves"):
        check_prior(restorer.denoiser, "own")


@pytest.mark.parametrize(
    ("name", "predicts"),
    [
        ("default", False),
        ("predictor-start", True),
        ("predictor", True),
        ("predictor-long", True),
        ("predictor-tuned", True),
        ("long-run", True),
    ],
)
def test_recipes_of_the_shipped_weights_build_their_networks(name: str, predicts: bool) -> None:
    shipped = default_model()
    model = read_recipe(Path("pretrained/weights", f"{name}.toml")).model
    assert model is not None
    assert model.backbone == shipped.backbone
    assert model.predictor == (shipped.predictor if predicts else None)
