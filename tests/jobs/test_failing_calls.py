"""Folder runs of which any call of the file system fails, or at which any call is the last one.

After each, every output is whole, the outputs of a picture are all old or all new, the manifest
tells the truth, and the next run completes the folder and leaves no stray file. The network is
replaced by one that returns its input, brighter for each seed, so that hundreds of runs are cheap.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import shutil
import signal
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.failing_calls import Calls
from support.processes import FORKS

import restore.jobs.run as run_module
from restore.errors import NothingToDo, RestoreError
from restore.jobs.manifest import Manifest
from restore.jobs.request import Request
from restore.jobs.run import Run
from restore.messages import LOGGER
from restore.methods.options import Options
from restore.methods.report import Report, Result
from restore.tasks import Denoising

KILL = "kill"
ERRORS = (errno.EIO, errno.ENOSPC, errno.EINTR, errno.EACCES)
PICTURES = ("a.png", "sub/b.png")
# Seconds after which a run counts as hanging.
LONG = 60


class Brighter:
    """Stands for `restore.Restorer`, and restores a picture to one that depends on the seed."""

    device = "cpu"

    def __init__(self, *_: object, **__: object) -> None: ...

    def prepare(self, *_: object) -> None: ...

    def pictures_at_once(self, *_: object) -> int:
        return 1

    def restore(self, task, picture, options: Options, callback=None) -> Result:
        dim = 0.5 * picture.samples + 0.1 * options.seed
        samples = [dim + 0.05 * k for k in range(options.samples)]
        nothing = {f.name: 0 for f in fields(Report) if f.default is MISSING}
        report = Report(**nothing | {"task": task.name, "method": options.method})
        several = options.samples > 1
        mean = np.mean(samples, axis=0)
        std = np.std(samples, axis=0) if several else None
        return Result(mean, std, samples if several else [], report)


@dataclass(frozen=True)
class Scenario:
    """A folder run, and what was there before it.

    Attributes:
        samples: number of samples of each picture.
        over: True if it replaces the outputs of a run with another seed.
    """

    samples: int = 1
    over: bool = False

    def run(self, place: Path, *, seed: int = 2, overwrite: bool | None = None) -> None:
        """Run, as the command does, and pass over that there is nothing to do."""
        request = Request(
            Denoising(0.1),
            place / "in",
            place / "out",
            Options(seed=seed, samples=self.samples, method="ddrm"),
            overwrite=self.over if overwrite is None else overwrite,
            compare=self.samples > 1,
            quiet=True,
        )
        with contextlib.suppress(NothingToDo):
            Run(request).go()

    def outputs(self, place: Path) -> dict[str, bytes]:
        """Return the content of all files but manifests."""
        found = (p for p in (place / "out").rglob("*") if p.is_file() and p.suffix != ".jsonl")
        return {p.relative_to(place / "out").as_posix(): p.read_bytes() for p in found}


@dataclass
class Losses:
    """What went wrong in the runs of a sweep that may not.

    Attributes:
        runs: number of runs with a fault.
        calls: number of faults by the call that they met.
        found: descriptions of losses.
    """

    runs: int = 0
    calls: Counter = field(default_factory=Counter)
    found: list[str] = field(default_factory=list)


def forked(function: Callable[[], object]) -> tuple[int, object]:
    """Call a function in a forked process, and return the exit code and its value or error."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        signal.alarm(LONG)
        try:
            value = function()
        except RestoreError as error:
            value = str(error)
        except BaseException:
            value = AssertionError(traceback.format_exc())
        with os.fdopen(write, "wb") as pipe:
            pickle.dump(value, pipe)
        os._exit(0)

    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), pickle.loads(data) if data else None


def sweep(folder: Path, scenario: Scenario, fault: int | str, every: int, losses) -> None:
    """Have each call of a scenario go wrong, and put the losses into a queue."""
    run_module.Restorer = Brighter
    run_module.model_digest = lambda model: "0" * 64
    # each run would start a process
    run_module.decoding_apart = lambda *_, **__: contextlib.nullcontext()
    LOGGER.disabled = True
    result = Losses()
    # this also imports what is imported at first use, before the forks
    old, new = (outputs_of(folder / f"seed{seed}", scenario, seed) for seed in (1, 2))
    before = folder / ("seed1" if scenario.over else "inputs")
    prepare(folder / "inputs")
    count = len(counted(folder / "count", scenario, before))
    for at in range(0, count, every):
        place = folder / str(at)
        shutil.copytree(before, place)
        faulty(place, scenario, fault, at, result)
        for loss in check(place, scenario, old, new, isinstance(fault, int)):
            result.found.append(f"{scenario}, {fault} at call {at}: {loss}")
        result.runs += 1

    losses.put(result)


def prepare(place: Path) -> None:
    """Make the inputs."""
    for index, name in enumerate(PICTURES):
        path = place / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((8, 8, 3), 20 * index, np.uint8)
        Image.fromarray(pixels).save(path)


def outputs_of(place: Path, scenario: Scenario, seed: int) -> dict[str, bytes]:
    """Return the outputs of an undisturbed run."""
    prepare(place)
    scenario.run(place, seed=seed)
    return scenario.outputs(place)


def counted(place: Path, scenario: Scenario, before: Path) -> list[str]:
    """Return the names of the calls of an undisturbed run."""
    shutil.copytree(before, place)

    def run() -> list[str]:
        calls = Calls(place / "out")
        calls.install()
        scenario.run(place)
        return calls.names

    code, names = forked(run)
    assert code == 0
    assert isinstance(names, list), names
    return names


def faulty(place: Path, scenario: Scenario, fault: int | str, at: int, result: Losses) -> None:
    """Run with a fault at a call."""
    told = place / "call"

    def go_wrong(name: str) -> None:
        told.write_text(name)
        if isinstance(fault, str):
            os._exit(9)
        raise OSError(fault, os.strerror(fault))

    def run() -> None:
        Calls(place / "out", at, go_wrong, cut=fault != errno.EINTR).install()
        scenario.run(place)

    code, value = forked(run)
    result.calls[told.read_text() if told.exists() else "none"] += 1
    if code != (9 if isinstance(fault, str) and told.exists() else 0):
        result.found.append(f"{scenario}, {fault} at call {at}: exit code {code}")
    if isinstance(value, AssertionError):
        result.found.append(f"{scenario}, {fault} at call {at}: {value}")


def check(
    place: Path, scenario: Scenario, old: dict[str, bytes], new: dict[str, bytes], at_once: bool
) -> list[str]:
    """Return what is wrong after a run, and after the next one.

    Args:
        place: the folder of the run.
        scenario: the scenario.
        old: outputs before the run, if they are replaced.
        new: outputs of the run.
        at_once: True if the outputs of a picture must be all old or all new before the next run.
    """
    losses = []
    found = scenario.outputs(place)
    for name, data in found.items():
        ours = name.rpartition("/")[2].startswith(".restore-") or name == "restore.journal"
        if not ours and data not in (new.get(name), old.get(name) if scenario.over else None):
            losses.append(f"{name} is neither old nor new")

    for picture in PICTURES:
        stem = picture.removesuffix(".png")
        states = set.intersection(
            *(
                labels(found.get(name), old.get(name) if scenario.over else None, data)
                for name, data in new.items()
                if name.startswith(f"{stem}.")
            )
        )
        if at_once and not states:
            losses.append(f"{picture}: some outputs are old and some are new")
        losses += untrue(place, picture, states)

    scenario.run(place)
    if scenario.outputs(place) != new:
        wrong = {k for k, v in scenario.outputs(place).items() if new.get(k) != v}
        losses.append(
            f"after the next run: {wrong}, missing {new.keys() - scenario.outputs(place)}"
        )
    done = {
        entry["input"]: entry["status"]
        for entry in map(json.loads, (place / "out" / "restore.jsonl").read_text().splitlines())
    }
    if done != dict.fromkeys(PICTURES, "done"):
        losses.append(f"the manifest after the next run: {done}")

    return losses


def labels(found: bytes | None, old: bytes | None, new: bytes) -> set[str]:
    """Return what a file can be: that before the run, that of the run, or both."""
    return {name for name, data in (("old", old), ("new", new)) if found == data}


def untrue(place: Path, picture: str, states: set[str]) -> list[str]:
    """Return where the manifest is wrong about a picture whose outputs are in these states."""
    manifest = Manifest(place / "out")
    entry = manifest.entries.get(picture)
    options = {} if entry is None else entry.options
    told = manifest.state(picture, place / "in" / picture, options)
    seed = None if manifest.begun.get(picture) is None else manifest.begun[picture].options["seed"]
    if told == "done" and ("new" if options["seed"] == 2 else "old") not in states:
        return [f"{picture} is recorded as done with seed {options['seed']}, and is {states}"]
    if told == "other options" and not (seed == 2 and "new" in states):
        return [f"{picture} is recorded as done with other options, and is {states}"]

    return []


def swept(folder: Path, scenario: Scenario, fault: int | str, every: int = 1) -> Losses:
    """Sweep in a process that forks well: it has no threads."""
    queue = FORKS.SimpleQueue()
    process = FORKS.Process(target=sweep, args=(folder, scenario, fault, every, queue))
    process.start()
    process.join()
    assert process.exitcode == 0
    return queue.get()


pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@pytest.mark.parametrize("fault", [KILL, errno.EIO])
@pytest.mark.parametrize("over", [False, True])
def test_some_calls(tmp_path: Path, fault: int | str, over: bool) -> None:
    losses = swept(tmp_path, Scenario(2, over), fault, every=9)
    assert losses.found == []
    assert losses.runs > 5


@pytest.mark.slow
@pytest.mark.parametrize("fault", [KILL, *ERRORS])
@pytest.mark.parametrize("scenario", [Scenario(s, over) for s in (1, 2) for over in (False, True)])
def test_every_call(tmp_path: Path, capsys, scenario: Scenario, fault: int | str) -> None:
    """Prints the rows of the table in docs/promises.md."""
    losses = swept(tmp_path, scenario, fault)
    name = fault if isinstance(fault, str) else errno.errorcode[fault]
    what = f"{scenario.samples} sample(s), {'replacing' if scenario.over else 'new'}"
    calls = ", ".join(f"{count} {call}" for call, count in sorted(losses.calls.items()))
    with capsys.disabled():
        print(f"\n| {what} | {name} | {losses.runs} | {calls} | {len(losses.found)} |")
    assert losses.found == []
