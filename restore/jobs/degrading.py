"""`restore degrade`: test inputs of every picture of a plan."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import operators
from restore.files import Fingerprint
from restore.jobs.folder_lock import alone_in_folder
from restore.jobs.manifest import Manifest
from restore.jobs.measurement import Measurement
from restore.jobs.measurement import encoded as encoded_measurement
from restore.jobs.picture import Ended, notes_of, with_pixels
from restore.jobs.pipeline import Stages, work_through
from restore.jobs.plan import Job, Plan, refuse_existing_outputs
from restore.jobs.recorder import Recorder, finish
from restore.jobs.staging import stage
from restore.messages import say
from restore.metrics.signal_noise import SignalNoise
from restore.photo.apart import decoding_apart
from restore.photo.photograph import encoded as encoded_photo
from restore.photo.photograph import read_photo
from restore.runtime.progress import Progress
from restore.tasks.degradation import degrade


def degrade_all(
    find: Callable[[], Plan],
    operator: str,
    noise: float | SignalNoise,
    seed: int,
    *,
    overwrite: bool = False,
    quiet: bool = False,
    as_json: bool = False,
    wording: Callable[[str], str] = str,
) -> None:
    """Make test inputs of every picture of a plan; see `degrade_file`.

    Args:
        find: returns the plan; called again when another run in the output folder has ended.
        operator: the operator as text.
        noise: standard deviation for pixels in [0, 1], or Poisson-Gaussian noise.
        seed: random seed for the noise; each picture of a folder has its own, by its name.
        overwrite: True to overwrite existing files.
        quiet: True to show errors only.
        as_json: True to print a JSON object per picture.
        wording: see `restore.jobs.request.Request`.

    Raises:
        NothingToDo: as ``find``.
        SomeFailed: pictures of a folder failed.
    """
    plan = find()
    with _alone_with(plan, quiet) as has_waited:
        plan = find() if has_waited else plan
        recorder = _degraded(plan, operator, noise, seed, overwrite, quiet, as_json, wording)

    finish(plan, recorder.failures, quiet)


@contextmanager
def _alone_with(plan: Plan, quiet: bool) -> Iterator[bool]:
    """Keep other runs out of the output folder of a plan; yield True if one was waited for."""
    if not plan.is_folder:
        yield False
        return

    told: list[bool] = []

    def wait() -> None:
        if not told and not quiet:
            say(f"restore: another run is at work in {plan.target}; waiting for its end")
        told.append(True)

    with alone_in_folder(Manifest(plan.target).journal, wait):
        yield bool(told)


def _degraded(
    plan: Plan,
    operator: str,
    noise: float | SignalNoise,
    seed: int,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
    wording: Callable[[str], str],
) -> Recorder:
    """Degrade the pictures of a plan, and return what was recorded of them."""

    def tell(target: str, done: Mapping[str, Any]) -> str:
        added = f"{done['noise']:g}"
        if (pair := done["signal_noise"]) is not None:
            added = f"variance {pair['a']:g} x + {pair['b']:g}"
        return f"{target}: measured {done['measured']} (.npz beside it), noise {added}"

    recorder = Recorder(plan, tell, as_json=as_json, wording=wording)
    with (
        decoding_apart(plan.is_folder),
        Progress(len(plan.jobs), quiet=quiet) as progress,
    ):
        recorder.progress = progress

        def load(job: Job) -> Fingerprint:
            return Fingerprint(0, 0, "")

        def solve(jobs: Sequence[Job], fingerprints: Sequence[Fingerprint]) -> list[Ended]:
            ((job, fingerprint),) = zip(jobs, fingerprints, strict=True)
            progress.picture(job.source.name)
            name = plan.name(job).encode(errors="surrogateescape")
            own = seed + zlib.crc32(name) if plan.is_folder else seed
            done = degrade_file(job, operator, noise, own, overwrite=overwrite)
            return [Ended(fingerprint, done)]

        work_through(plan.jobs, Stages(load, solve, lambda job, ended: ended, recorder.finished))

    return recorder


def degrade_file(
    job: Job, operator: str, noise: float | SignalNoise, seed: int, *, overwrite: bool = False
) -> dict[str, Any]:
    """Degrade a picture file, and write the measurement beside the degraded picture.

    Raises:
        RestoreError: the picture cannot be degraded or written; nothing is written then.
    """
    refuse_existing_outputs(job, overwrite, 1)
    photo = read_photo(job.source)
    degraded = degrade(photo.samples, operator, noise=noise, seed=seed)
    size = photo.pixels.shape[1], photo.pixels.shape[0]
    written = str(operators.parse(operator).in_folder(Path.cwd()))
    measurement = Measurement(degraded.measurement[0], written, noise, size, photo.bits)
    assert job.measurement is not None
    shown = encoded_photo(with_pixels(photo, degraded.picture), job.target)
    files = {job.target: shown, job.measurement: encoded_measurement(measurement)}
    stage(files).put_in_place(replace=overwrite)
    shape = "x".join(str(n) for n in degraded.measurement.shape[1:])
    pair = noise if isinstance(noise, SignalNoise) else None
    level = noise if pair is None else float(pair.std(degraded.measurement).mean())

    return {
        "outputs": [str(job.target), str(job.measurement)],
        "operator": operator,
        "noise": level,
        "signal_noise": None if pair is None else asdict(pair),
        "measured": shape,
        **notes_of(photo, job.target),
    }
