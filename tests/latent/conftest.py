"""Small pipelines, written once for all tests of latent models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import pipelines

from restore.latent.denoiser import LatentDenoiser
from restore.latent.loading import load


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory) -> Callable[[str], Path]:
    """``pipeline(family)`` returns the folder of a small pipeline, see `support.pipelines`."""
    folder = tmp_path_factory.mktemp("pipelines")
    return lambda family: pipelines.written(folder, family)


@pytest.fixture(scope="session")
def latent(pipeline) -> Callable[[str], LatentDenoiser]:
    """``latent(family)`` returns its denoiser, loaded once."""
    loaded: dict[str, LatentDenoiser] = {}

    def of(family: str) -> LatentDenoiser:
        if family not in loaded:
            loaded[family] = load(pipeline(family))
        return loaded[family]

    return of


@pytest.fixture
def photo() -> torch.Tensor:
    """A smooth picture [1, 3, 64, 64] in [-1, 1]."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.randn(1, 3, 8, 8, generator=generator)
    return torch.nn.functional.interpolate(coarse, (64, 64), mode="bicubic").clamp(-1, 1)
