"""`restore tune`: search noise levels of SR3 for few steps on held-out pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import torch

from pretrained.tables import read_json
from restore.diffusion.level_search import Levels, axes_for, search
from restore.errors import BadArgument, FileAccess, NothingToDo
from restore.evaluate.protocol import Case, degraded, to_tensor
from restore.evaluate.settings import Settings
from restore.files import refuse_existing, refuse_long, write_atomically
from restore.jobs.walk import pictures_in
from restore.methods.options import Options
from restore.methods.settings import settings_for
from restore.metrics.quality import load_lpips, psnr
from restore.photo.apart import decoding_apart
from restore.photo.encode import quantise
from restore.photo.photograph import SUFFIXES, read_photo
from restore.precision import single_precision
from restore.report.html import printable
from restore.restorer import Restorer, model_digest
from restore.tasks import SuperResolution

SCORES = ("lpips", "psnr")
# Maximum number of pixels in a batch.
BATCH_PIXELS = 2**19
# Smallest side of a crop in pixels for both metrics.
SMALLEST = 32


class Found(NamedTuple):
    """Content of a file of noise levels.

    Attributes:
        levels: decreasing noise levels σ for pictures in [-1, 1], without a final 0.
        eta: fraction of fresh noise in each step; None is SR3's default.
    """

    levels: tuple[float, ...]
    eta: float | None


def read_levels(path: Path) -> Found:
    """Read a file of noise levels, such as ``{"levels": [5.0, 1.0, 0.2], "eta": 0.8}``.

    Raises:
        FileAccess: the file cannot be read.
        BadArgument: the file does not hold noise levels.
    """
    table = _read(path)
    levels = table.get("levels")
    eta = table.get("eta")
    if not isinstance(levels, list) or not all(_is_number(level) for level in levels):
        raise BadArgument(
            f"`levels`={path}: has no list of numbers, levels, as restore tune writes it"
        )
    if eta is not None and not _is_number(eta):
        raise BadArgument(f"`levels`={path}: eta = {eta!r}: must be a number from 0 to 1")

    return Found(tuple(float(level) for level in levels), None if eta is None else float(eta))


@dataclass(frozen=True)
class Request:
    """Options of a search.

    Attributes:
        folder: folder of sharp pictures that the model was not trained on.
        steps: number of noise levels.
        scale: as for `restore.tasks.sr.SuperResolution`.
        kernel: as for `restore.tasks.sr.SuperResolution`.
        noise: standard deviation of added noise, for pixels in [0, 1].
        score: metric to optimise: ``lpips`` (minimised) or ``psnr`` (maximised).
        size: side of the centre crop of each picture in pixels.
        count: number of pictures, the first by name.
        seed: random seed for the noise.
        model: as for `restore.Restorer`.
        device: as for `restore.Restorer`.
        label: class label for a class-conditional model.

    Raises:
        BadArgument: an invalid option.
    """

    folder: Path
    steps: int = 10
    scale: float = 4.0
    kernel: str = "bicubic"
    noise: float = 0.0
    score: str = "lpips"
    size: int = 96
    count: int = 8
    seed: int = 0
    model: str = "default"
    device: str = "auto"
    label: int | None = None

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise BadArgument(f"`score`={self.score}: unknown; use {' or '.join(SCORES)}")
        if self.size < SMALLEST:
            raise BadArgument(f"`size`={self.size}: must be at least {SMALLEST} pixels")
        settings_for(SuperResolution.kind, Options("sr3", self.steps))
        _ = self.protocol

    @cached_property
    def protocol(self) -> Settings:
        """Settings of the degradation."""
        return Settings(
            "sr",
            scale=self.scale,
            kernel=self.kernel,
            noise=self.noise,
            size=self.size,
            count=self.count,
            seed=self.seed,
        ).completed()


@single_precision()
def tune(
    request: Request,
    out: Path,
    *,
    overwrite: bool = False,
    halvings: int = 2,
    tell: Callable[[str], None] = lambda text: None,
) -> Levels:
    """Search noise levels, and write all trials and the best to a file after each trial.

    A file of the same search is resumed.

    Args:
        request: options of the search.
        out: the file.
        overwrite: True to start a new search, whatever the file holds.
        halvings: see `search`.
        tell: called with a line for each improvement.

    Raises:
        FileAccess: the folder cannot be read, or the file holds something else.
        NothingToDo: no picture.
        Unavailable: no such model or device, or the network of LPIPS is missing.
    """
    measured = _Measured(request, out, overwrite, tell)
    best = search(measured, axes_for(measured.schedule), halvings)
    measured.write(complete=True)
    return best


class _Measured:
    """The objective of the search, with its trials in the file."""

    def __init__(
        self, request: Request, out: Path, overwrite: bool, tell: Callable[[str], None]
    ) -> None:
        self.request = request
        self.out = out
        self.overwrite = overwrite
        self.tell = tell
        paths = _pictures(request)
        self.settings = {
            **{
                name: value
                for name, value in asdict(request).items()
                if name not in ("folder", "model", "device")
            },
            "pictures": [printable(path.relative_to(request.folder).as_posix()) for path in paths],
            "model_sha256": model_digest(request.model),
        }
        self.tried = {} if overwrite else self._tried_before()
        self.restorer = Restorer(request.model, request.device)
        self.schedule = self.restorer.denoiser.schedule
        together = max(1, BATCH_PIXELS // request.size**2)
        with decoding_apart():
            cases = [_case(request, path) for path in paths]
        self.batches = [cases[first : first + together] for first in range(0, len(cases), together)]
        self.lpips = load_lpips() if request.score == "lpips" else None

    def __call__(self, levels: Levels) -> float:
        if levels not in self.tried:
            best = min(self.tried.values(), default=float("inf"))
            self.tried[levels] = value = fmean(
                one for batch in self.batches for one in self._values(batch, levels)
            )
            self.write(complete=False)
            if value < best:
                self.tell(
                    f"{len(self.tried)} tried, {self.request.score} {abs(value):.4f}: "
                    f"{told(levels)}"
                )
        return self.tried[levels]

    def _values(self, batch: Sequence[Case], levels: Levels) -> list[float]:
        """Return the score of each picture, lower is better."""
        request = self.request
        sigmas = levels.sigmas(request.steps)
        options = Options(
            "sr3", eta=levels.eta, seed=request.seed, levels=sigmas, label=request.label
        )
        measured = torch.cat([case.measurement for case in batch])
        truth = torch.cat([to_tensor(case.truth) for case in batch])
        problem = self.restorer.problem(batch[0].task, measured)
        samples, _ = self.restorer.solve_problem(problem, options)
        result = samples[0].mul(255).round().div(255)

        with torch.inference_mode():
            return (
                self.lpips(result, truth) if self.lpips is not None else -psnr(result, truth)
            ).tolist()

    def write(self, complete: bool) -> None:
        best = min(self.tried, key=self.tried.__getitem__)
        table = {
            "method": "sr3",
            "levels": best.sigmas(self.request.steps),
            **best._asdict(),
            "value": self.tried[best],
            "complete": complete,
            "settings": self.settings,
            "tried": [[*levels, value] for levels, value in self.tried.items()],
        }
        write_atomically((json.dumps(table, indent=1) + "\n").encode(), self.out, overwrite=True)

    def _tried_before(self) -> dict[Levels, float]:
        refuse_long(self.out)
        if not self.out.exists():
            return {}

        try:
            table = _read(self.out)
        except BadArgument:
            table = {}

        if table.get("settings") != self.settings:
            refuse_existing(self.out, overwrite=False)

        return {Levels(*point): value for *point, value in table["tried"]}


def _pictures(request: Request) -> list[Path]:
    if not request.folder.is_dir():
        raise FileAccess(f"{request.folder}: no such folder")

    paths = list(pictures_in(request.folder, SUFFIXES))[: request.count]
    if not paths:
        raise NothingToDo(
            f"{request.folder}: no picture in this folder (looked for "
            f"{', '.join(sorted(SUFFIXES))})"
        )

    return paths


def _case(request: Request, path: Path) -> Case:
    pixels = quantise(read_photo(path).pixels, 8)
    picture = np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
    return degraded(request.protocol, path.relative_to(request.folder).as_posix(), picture)


def told(levels: Levels) -> str:
    """Describe levels in a line."""
    return f"σ {levels.highest:g} to {levels.lowest:g}, ρ {levels.rho:g}, η {levels.eta:g}"


def _read(path: Path) -> dict[str, Any]:
    try:
        table = read_json(path)
    except OSError as error:
        raise FileAccess(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError:
        table = None

    if not isinstance(table, dict):
        raise BadArgument(
            f"`levels`={path}: is no file of levels in JSON, as restore tune writes it"
        )

    return table


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
