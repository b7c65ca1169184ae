"""`restore likelihood --bound`: the variational bound of photographs, and what follows from it."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from restore.diffusion.bound import (
    VARIANCES,
    Bound,
    progressive_estimates,
    variational_bound,
)
from restore.diffusion.denoiser import Denoiser
from restore.diffusion.schedule import noise_levels
from restore.diffusion.stepping import Callback
from restore.errors import BadArgument, SomeFailed
from restore.files import refuse_existing, write_atomically
from restore.jobs.crops import CropEstimator, check_fits, for_each, middle_square
from restore.jobs.plan import check_writable
from restore.messages import put, put_json
from restore.report.figures import Curve, Panel, check_figure, rate_figure, terms_figure
from restore.runtime.budget import SOLVER_BYTES
from restore.runtime.progress import Progress

# Number of rates at which `BoundOutputs.progressive` shows the picture.
RATES = 8


class BoundOutputs(NamedTuple):
    """Output files of a run, each None for no such file.

    Attributes:
        table: every term, rate and distortion of every picture, as CSV.
        plot: figure of the terms by t.
        progressive: figure of the rate–distortion curves, and of the only picture at `RATES` rates.
        overwrite: True to overwrite existing files.
    """

    table: Path | None = None
    plot: Path | None = None
    progressive: Path | None = None
    overwrite: bool = False

    def check(self, pictures: Sequence[Path]) -> None:
        """Check that all files can be written.

        Raises:
            BadArgument: a suffix that does not fit, or one file for two outputs or an input.
            FileAccess: a file that exists or cannot be written.
            Unavailable: matplotlib is needed and not installed.
        """
        files = {
            name: path
            for name in ("table", "plot", "progressive")
            if (path := getattr(self, name)) is not None
        }
        for name, path in files.items():
            if name != "table":
                check_figure(path, name)
            refuse_existing(path, self.overwrite)
            check_writable(path.parent)

        inputs = {path.resolve() for path in pictures}
        seen: dict[Path, str] = {}
        for name, path in files.items():
            if path.resolve() in inputs:
                raise BadArgument(f"`{name}`={path}: is an input")
            if path.resolve() in seen:
                raise BadArgument(f"`{name}`={path}: is `{seen[path.resolve()]}` as well")
            seen[path.resolve()] = name


class Measured(NamedTuple):
    """The variational bound of one picture.

    Attributes:
        path: picture file.
        bound: the terms.
        variance: variance of the chain's steps.
        size: side of the crop in pixels.
        seconds: computing time.
    """

    path: Path
    bound: Bound
    variance: str
    size: int
    seconds: float

    @property
    def bits(self) -> float:
        """The bound in bits per dimension."""
        return float(self.bound.total)

    @property
    def steps(self) -> int:
        """Length of the chain, T."""
        return len(self.bound.sigmas)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Terms from L_T to L_0; rate and distortion are those before the term is sent."""
        names = ("sigma", "bits", "rate", "rmse")
        columns = zip(
            self.bound.sigmas,
            self.bound.terms[0].tolist(),
            self.bound.rates[0].tolist(),
            self.bound.distortions[0].tolist(),
            strict=True,
        )
        return [
            {"t": self.steps - index, "term": f"L_{self.steps - index - 1}"}
            | dict(zip(names, values, strict=True))
            for index, values in enumerate(columns)
        ]

    def record(self) -> dict[str, Any]:
        """Return everything as an object of JSON."""
        return {
            "input": str(self.path),
            "bits": self.bits,
            "size": self.size,
            "seconds": self.seconds,
            "steps": self.steps,
            "variance": self.variance,
            "prior": float(self.bound.prior),
            "decoder": float(self.bound.terms[0, -1]),
            "terms": self.rows,
        }

    def lines(self) -> list[str]:
        """Return the table for people: L_T, sums of the other terms by halves of t, and L_0."""
        first = (
            f"{self.path}: at most {self.bits:.3f} bits per dimension ({self.size}x{self.size}, "
            f"{self.steps} steps, {self.variance} variance, {self.seconds:.1f} s)"
        )
        head = f"  {'term':<16}{'bits':>10}{'rate after':>12}{'RMSE before':>13}   noise level"
        rate = float(self.bound.prior)
        lines = [first, head, f"  {f'L_{self.steps}':<16}{rate:>10.5f}{rate:>12.5f}"]

        rows = self.rows
        for part in _halves(self.steps):
            begin, end = rows[part[0]], rows[part[-1]]
            name = begin["term"] + (f" … {end['term']}" if len(part) > 1 else "")
            bits = sum(rows[index]["bits"] for index in part)
            rate += bits
            lines.append(
                f"  {name:<16}{bits:>10.5f}{rate:>12.5f}{begin['rmse']:>13.2f}   "
                f"{begin['sigma']:.4g}" + (f" … {end['sigma']:.4g}" if len(part) > 1 else "")
            )

        return lines


class BoundEstimator(CropEstimator):
    """A model that estimates the variational bound of pictures.

    Args:
        model: as for `restore.Restorer`.
        device: as for `restore.Restorer`.
        size: side of the centre crop of each picture.
        steps: length of the chain; None takes all steps of the model's, or those of a distilled
            model.
        variance: one of `restore.diffusion.bound.VARIANCES`; None takes the learned one of a model
            that has it, else ``forward``.
        progressive: True to follow one run of the chain, as a receiver of the picture would.
        seed: random seed for the noise.
        memory: as for `restore.Restorer`.
        label: class label for a class-conditional model.

    Raises:
        BadArgument: an invalid size, number of steps, variance, memory or class.
        Unavailable: no such model or device, or crops of this size do not fit the memory.
    """

    def __init__(
        self,
        model: str = "default",
        device: str = "auto",
        *,
        size: int = 64,
        steps: int | None = None,
        variance: str | None = None,
        progressive: bool = False,
        seed: int = 0,
        memory: str | None = None,
        label: int | None = None,
    ) -> None:
        if variance not in (None, *VARIANCES):
            raise BadArgument(f"`variance`={variance}: must be one of {', '.join(VARIANCES)}")

        super().__init__(model, device, size=size, seed=seed, memory=memory, label=label)
        self.progressive = progressive
        self.sigmas = _levels(self.denoise, steps)
        self.variance: Any = _variance(self.denoise, variance)
        check_fits(size, SOLVER_BYTES + self.budget.per_pixel, self.budget.memory)

    def __call__(self, path: Path, callback: Callback | None = None) -> Measured:
        """Return the bound of the centre crop of a picture.

        Raises:
            UnreadableInput: not a picture, or one smaller than the crop.
            FileAccess: the file cannot be read.
            Unavailable: not enough memory.
        """
        start = time.perf_counter()
        pictures = self._picture(path)
        with self.enough_memory(path), torch.inference_mode():
            bound = variational_bound(
                self.denoise,
                pictures,
                self.sigmas,
                variance=self.variance,
                progressive=self.progressive,
                generator=self.generator(),
                callback=callback,
            )

        return Measured(path, bound, self.variance, self.size, time.perf_counter() - start)

    def panels(self, measured: Measured) -> list[Panel]:
        """Return the picture at `RATES` rates, each half the next, and the picture itself."""
        rates = measured.bound.rates[0]
        whole = float(measured.bound.total)
        wanted = [whole / 2**power for power in range(RATES - 1, 0, -1)]
        indices = sorted({int((rates <= rate).sum().clamp_min(1)) - 1 for rate in wanted})
        pictures = self._picture(measured.path)

        with torch.inference_mode():
            estimates = progressive_estimates(
                self.denoise, pictures, self.sigmas, indices, generator=self.generator()
            )

        shown = [_pixels(estimate) for estimate in estimates[0]] + [_pixels(pictures[0])]
        bits = [*rates[indices].tolist(), whole]
        return [Panel(f"{rate:.3g} bits", own) for rate, own in zip(bits, shown, strict=True)]

    def _picture(self, path: Path) -> Tensor:
        return middle_square(path, self.size).to(self.device) / 127.5 - 1


def tell_bounds(
    estimator: BoundEstimator,
    pictures: Sequence[Path],
    outputs: BoundOutputs,
    *,
    as_json: bool = False,
    quiet: bool = False,
    wording: Callable[[str], str] = str,
) -> None:
    """Print a table on stdout for each picture, and write the output files.

    Args:
        estimator: the model.
        pictures: picture files.
        outputs: output files.
        as_json: True to print JSON objects.
        quiet: True to show no progress.
        wording: puts error texts into the words of the caller.

    Raises:
        RestoreError: the only picture failed.
        SomeFailed: some of several pictures failed; after the outputs of the others are written.
    """
    found: list[Measured] = []
    failures: SomeFailed | None = None

    with Progress(len(pictures), quiet=quiet) as progress:

        def work(path: Path) -> None:
            progress.picture(path.name)
            measured = estimator(path, progress.step)
            found.append(measured)
            if as_json:
                put_json(measured.record())
            else:
                for line in measured.lines():
                    put(line)

        try:
            for_each(pictures, work, wording)
        except SomeFailed as error:
            failures = error

    if found:
        _write(estimator, found, outputs)
    if failures is not None:
        raise failures


def _write(estimator: BoundEstimator, found: Sequence[Measured], outputs: BoundOutputs) -> None:
    """Write the output files."""

    def save(path: Path, data: bytes) -> None:
        write_atomically(data, path, outputs.overwrite)

    if outputs.table is not None:
        save(outputs.table, _csv(found))
    if outputs.plot is not None:
        curves = [
            Curve(one.path.name, [row["t"] for row in one.rows], one.bound.terms[0].tolist())
            for one in found
        ]
        save(outputs.plot, terms_figure(curves, outputs.plot.suffix))
    if outputs.progressive is not None:
        curves = [
            Curve(one.path.name, one.bound.rates[0].tolist(), one.bound.distortions[0].tolist())
            for one in found
        ]
        panels = estimator.panels(found[0])
        save(outputs.progressive, rate_figure(curves, panels, outputs.progressive.suffix))


def _halves(steps: int) -> list[list[int]]:
    """Return the indices of L_{T−1} … L_{T/2}, L_{T/2−1} … L_{T/4} and so on, and of L_0.

    >>> _halves(6)  # L_5 … L_3, L_2, L_1, L_0
    [[0, 1, 2], [3], [4], [5]]
    """
    parts = []
    high = steps - 1  # of L_{high}
    while high:
        low = high // 2
        parts.append(list(range(steps - 1 - high, steps - 1 - low)))
        high = low

    return [*parts, [steps - 1]]


def _csv(found: Sequence[Measured]) -> bytes:
    """Return the table: L_T and every other term of every picture, a line each."""
    names = ("input", "t", "term", "sigma", "bits", "rate", "rmse")
    text = io.StringIO()
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    for one in found:
        own = {"input": str(one.path)}
        first = {"t": one.steps, "term": f"L_{one.steps}", "sigma": one.bound.sigmas[0]}
        table.writerow(own | first | {"bits": float(one.bound.prior), "rate": 0.0})
        table.writerows(own | row for row in one.rows)

    return text.getvalue().encode("utf-8", "surrogateescape")


def _levels(denoise: Denoiser, steps: int | None) -> list[float]:
    """Return the noise levels of the chain with a final 0.

    Raises:
        BadArgument: the number of steps does not suit the model.
    """
    own = denoise.distilled_levels
    if own is not None:
        if steps not in (None, len(own)):
            raise BadArgument(
                f"`steps`={steps}: must be {len(own)}, the only noise levels that this distilled "
                "model knows"
            )
        return [*own, 0.0]

    longest = len(denoise.schedule)
    if steps is not None and not 1 <= steps <= longest:
        raise BadArgument(
            f"`steps`={steps}: must be between 1 and {longest}, the length of this model's chain"
        )
    return noise_levels(denoise.schedule, longest if steps is None else steps)


def _variance(denoise: Denoiser, wanted: str | None) -> str:
    """Return the variance of the steps.

    Raises:
        BadArgument: the model has not learned the variance that is wanted.
    """
    if wanted == "learned" and not denoise.learned_variance:
        raise BadArgument(
            "`variance`=learned: this model has not learned the variance of its steps; forward and "
            "posterior are fixed ones"
        )
    return wanted or ("learned" if denoise.learned_variance else "forward")


def _pixels(picture: Tensor) -> np.ndarray:
    """Return pixels [H, W, 3] in [0, 1] of a picture [3, H, W] in [-1, 1]."""
    return ((picture.cpu() + 1) / 2).clamp(0, 1).permute(1, 2, 0).double().numpy()
