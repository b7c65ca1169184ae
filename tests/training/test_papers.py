"""The recipes of papers: EDM's and NCSN's objectives against the denoisers that they train."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from restore.diffusion.denoiser import Condition, Denoiser, ModelConfig
from restore.training.objective import Objective, Terms
from restore.training.recipe import read_recipe


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
