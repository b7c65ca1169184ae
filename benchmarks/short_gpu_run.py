"""Train on a GPU that is lent for a quarter of an hour, in a machine without network.

    # photographs, and the state of a run to continue, into files that can travel
    python benchmarks/short_gpu_run.py pack PHOTOGRAPHS PACKED --limit 30MiB
    python benchmarks/short_gpu_run.py pack-state RUN PACKED --limit 24MiB

    # on the GPU
    python benchmarks/short_gpu_run.py run PACKED OUT --init default --minutes 13 \\
        --predictor-recipe benchmarks/recipes/gpu_predictor.toml --predictor-minutes 4 \\
        --recipe benchmarks/recipes/gpu_refiner.toml

    # back at home
    python benchmarks/short_gpu_run.py unpack-state OUT RUN --workers 0 --eager
    restore train --out RUN --data PHOTOGRAPHS --resume --minutes 300

The time of `run` counts from the start of the process. Saving, packing and the samples are timed
beforehand with networks of the same size, and training ends so much earlier. See docs/training.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from restore.errors import BadArgument, FileAccess, RestoreError
from restore.runtime.devices import keep_freed_memory, synchronize
from restore.training.batches import Batches
from restore.training.checkpoint import (
    CHECKPOINT,
    initial_weights,
    load_state,
    save_state,
    write_model,
)
from restore.training.learner import Learner
from restore.training.packed_pictures import pack_pictures, unpack_pictures
from restore.training.packed_state import STATE, Packed, pack_state, unpack_state
from restore.training.pictures import SMALLEST_CROP, Pictures
from restore.training.pieces import MIB, index_path, mebibytes, size_of
from restore.training.processes import Interruption, joined
from restore.training.recipe import Recipe, default_model
from restore.training.recipe_file import read_recipe
from restore.training.run import BEFORE_COOLDOWN, Progress
from restore.training.samples import SIDE, sample_sheet
from restore.training.trainer import Options, train

PREDICTOR_RUN = "predictor-run"
RUN = "run"
LIMIT = 60 * MIB
# Seconds to spare beside the measured ones.
SPARE = 3.0
# Factor on the measured time of saving.
SAFETY = 2.0
# Number of pictures on the sheet of samples.
SHOWN = 6


@dataclass(frozen=True)
class Session:
    """Settings of a session on the borrowed machine.

    Attributes:
        packed: Folder of the photographs and, to continue a run, its state.
        out: Folder for the packed state; nothing else should be in it.
        recipe: Recipe of the training, without a length.
        seconds: Time from the start of the process to its end.
        predictor_recipe: Recipe of the training of the predictor alone, before the other.
        predictor_seconds: Length of that training.
        init: Initial weights, as for ``restore train``.
        device: Device, as for ``restore train``.
        work: Folder for photographs and run folders; a run in it is continued. None is a temporary
            one.
        validation: Pictures for the samples, as for ``restore train``.
        limit: Limit of the packed state in bytes.
    """

    packed: Path
    out: Path
    recipe: Path
    seconds: float
    predictor_recipe: Path | None = None
    predictor_seconds: float = 0.0
    init: str | None = None
    device: str = "auto"
    work: Path | None = None
    validation: Path | None = None
    limit: int = LIMIT


@dataclass(frozen=True)
class Reserve:
    """Measured seconds that are needed besides the steps.

    Attributes:
        before: Making networks and the first batch, before the first step.
        saving: Saving the checkpoint and packing it.
        samples: Drawing the sheet of samples.
    """

    before: float
    saving: float
    samples: float

    @property
    def after(self) -> float:
        """Seconds from the last step to the end."""
        return SAFETY * self.saving + self.samples + SPARE


class Packer:
    """Packs a run folder's state whenever there is a new checkpoint.

    Args:
        out: Folder for the packed files.
        limit: Limit in bytes.
        say: Called with messages.
    """

    def __init__(self, out: Path, limit: int, say: Callable[[str], None]) -> None:
        self.out = out
        self.limit = limit
        self.say = say
        self._known = 0

    def after(self, run: Path) -> None:
        """Pack the run if its checkpoint is new; training goes on if that fails."""
        if (stamp := _changed(run / CHECKPOINT)) in (0, self._known):
            return

        self._known = stamp
        try:
            self.say(f"packed {pack_state(run, self.out, self.limit, ended='still training')}")
        except (RestoreError, OSError) as error:
            self.say(f"not packed, training goes on: {error}")

    def last(self, run: Path, ended: str) -> Packed:
        """Pack the run for good.

        Raises:
            RestoreError: it cannot be packed.
        """
        return pack_state(run, self.out, self.limit, ended=ended)


def session(
    asked: Session, say: Callable[[str], None], clock: Callable[[], float], started: float
) -> Packed:
    """Unpack, train and pack within the time.

    Args:
        asked: Settings, see `Session`.
        say: Called with messages.
        clock: Returns the time in seconds.
        started: Time at which the process began.

    Raises:
        RestoreError: There was not enough time, or nothing was trained. If training failed, the
            last good state is packed before its error is raised.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the last state has been packed.
    """
    _check(asked)
    work = asked.work or Path(tempfile.mkdtemp(prefix="restore-"))
    packer = Packer(asked.out, asked.limit, say)

    with Interruption() as interruption:
        try:
            ended = "time"
            error = None
            Training(
                asked, work, packer, say, clock, started + asked.seconds, interruption
            ).through()
        except (Exception, KeyboardInterrupt) as caught:
            ended = "interrupted" if isinstance(caught, KeyboardInterrupt) else f"error: {caught}"
            error = caught
        run = next(
            (work / name for name in (RUN, PREDICTOR_RUN) if (work / name / CHECKPOINT).is_file()),
            None,
        )
        if run is None:
            raise error or FileAccess(f"{work}: nothing was trained")
        if (work / PREDICTOR_RUN / "log.csv").is_file() and run.name == RUN:
            shutil.copyfile(work / PREDICTOR_RUN / "log.csv", run / "predictor-log.csv")
        packed = packer.last(run, ended)
        say(f"{run.name}, {ended}: packed {packed}")
        if asked.work is None:
            shutil.rmtree(work, ignore_errors=True)
        if error is not None:
            raise error
        return packed


class Training:
    """The training of a session, in one or two runs.

    Args:
        asked: Settings, see `Session`.
        work: Folder for everything that does not travel.
        packer: Packs the states.
        say: Called with messages.
        clock: Returns the time in seconds.
        deadline: Time at which everything is to be over.
        interruption: Interruption of the whole session.
    """

    def __init__(
        self,
        asked: Session,
        work: Path,
        packer: Packer,
        say: Callable[[str], None],
        clock: Callable[[], float],
        deadline: float,
        interruption: Interruption,
    ) -> None:
        self.asked = asked
        self.work = work
        self.packer = packer
        self.say = say
        self.clock = clock
        self.deadline = deadline
        self.interruption = interruption
        self.options = Options(
            work / RUN,
            work / "photographs",
            device=asked.device,
            validation=asked.validation,
            cache=work / "cache",
        )

    def through(self) -> None:
        """Train until the time is over; errors as `restore.training.trainer.train`."""
        recipe = read_recipe(self.asked.recipe)
        self._unpack()
        if (self.work / RUN / CHECKPOINT).is_file():
            before = adopted(self.work / RUN, recipe)
            self._phase(replace(self.options, recipe=recipe, resume=True), before=before)
            return

        init = self.asked.init
        if self.asked.predictor_recipe is not None:
            first = self.work / PREDICTOR_RUN
            predictor_recipe = read_recipe(self.asked.predictor_recipe)
            if not (first / CHECKPOINT).is_file():
                until = self.clock() + self.asked.predictor_seconds
                self._phase(
                    replace(self.options, out=first, recipe=predictor_recipe, init=init), until
                )
                self.packer.after(first)
            init = str(first / "model.safetensors")

        self._phase(replace(self.options, recipe=recipe, init=init))

    def _unpack(self) -> None:
        """Unpack photographs and state into the work folder, unless they are there."""
        if not self.options.data.is_dir():
            entries = unpack_pictures(self.asked.packed, self.options.data)
            self.say(f"{self._left()}: {len(entries)} photographs unpacked")

        pictures = Pictures(self.options.data, smallest=SMALLEST_CROP, cache=self.options.cache)
        self.say(f"{self._left()}: {pictures.pixels / 1e6:.0f} megapixels decoded")

        if (
            index_path(self.asked.packed, STATE).is_file()
            and not (self.work / RUN / CHECKPOINT).is_file()
        ):
            state = unpack_state(self.asked.packed, self.work / RUN)
            self.say(f"{self._left()}: the state after step {state.step} unpacked")

    def _phase(self, options: Options, until: float | None = None, before: float = 0.0) -> None:
        """Train one run, so long that everything after it still fits.

        Args:
            options: Options of the run, without a length.
            until: Time at which it is to be over; None is the deadline.
            before: Seconds of training that it had before.

        Raises:
            BadArgument: No time is left.
        """
        self._check_interruption()
        reserve = self._reserve(options)
        until = self.deadline if until is None else min(until, self.deadline)
        seconds = until - reserve.after - reserve.before - self.clock()
        if seconds <= 0:
            raise BadArgument(
                f"{options.out.name}: no time is left to train: {reserve.before:.1f} s are needed "
                f"to begin and {reserve.after:.1f} s to end; give it {-seconds + 1:.0f} s more"
            )

        self.say(
            f"{self._left()}: training in {options.out.name} for {seconds:.0f} s; kept for the end "
            f"{reserve.after:.1f} s: {SAFETY:g} × {reserve.saving:.1f} to save, "
            f"{reserve.samples:.1f} for the samples"
        )

        latest = until - SAFETY * reserve.saving
        self._check_interruption()

        try:
            summary = train(
                replace(options, minutes=(before + seconds) / 60),
                progress=lambda progress: self._note(progress, options, latest),
                notice=self.say,
                clock=self.clock,
            )
        except KeyboardInterrupt:
            if self.clock() < latest or self.interruption.wanted:
                raise
            self.say(f"{self._left()}: stopped for the packing, before the end of the schedule")
            return

        quality = ", ".join(f"{name} {value:.2f}" for name, value in summary.quality.items())
        self.say(
            f"{self._left()}: {summary.steps} steps, {summary.pixels_per_second / 1e6:.2f} Mpx/s; "
            f"{quality}"
        )

    def _note(self, progress: Progress, options: Options, latest: float) -> None:
        """Pack a new checkpoint after a step, and stop in time."""
        self.packer.after(options.out)
        if self.clock() > latest:
            signal.raise_signal(signal.SIGTERM)
        if progress.step % 200 == 0:
            self.say(
                f"{self._left()}: step {progress.step}, {progress.fraction:.0%}, loss "
                f"{progress.loss:.4f}"
            )

    def _check_interruption(self) -> None:
        if self.interruption.wanted:
            raise KeyboardInterrupt

    def _left(self) -> str:
        return f"{self.deadline - self.clock():.1f} s left"

    def _reserve(self, options: Options) -> Reserve:
        """Time everything besides the steps, with networks of the same size."""
        recipe = options.recipe
        if recipe.model is None and options.init is not None:
            recipe = replace(recipe, model=initial_weights(options.init, None)[0])

        recipe = replace(recipe, model=recipe.model or default_model(), distillation=None)
        recipe = replace(recipe, run=replace(recipe.run, compile=False)).with_length(1, None)

        with (
            tempfile.TemporaryDirectory(dir=self.work) as folder,
            joined(options.device) as processes,
        ):
            begun = self.clock()
            learner = Learner(recipe, processes)
            batches = Batches(
                Pictures(options.data, cache=options.cache),
                crop=recipe.data.crop,
                batch=recipe.data.batch,
                unconditional_fraction=recipe.data.unconditional_fraction,
                degradations=recipe.data.degradations,
                predictor=recipe.predictor_data,
            )
            batches.at(0)
            before = self.clock()

            state = learner.state(0.0, {})
            networks = {"optimiser": state.network, "predictor_optimiser": state.predictor}
            momenta = {
                part: {f"{name}/momentum": w for name, w in own.items()}
                for part, own in networks.items()
            }
            save_state(replace(state, **momenta), Path(folder))
            write_model(recipe.model, learner.exported, Path(folder) / "model.safetensors")
            pack_state(Path(folder), Path(folder) / "packed", self.asked.limit)
            saved = self.clock()

            side = recipe.model.size or (recipe.data.crop if options.validation is None else SIDE)
            picture = torch.zeros(1, 3, side, side, device=processes.device)
            for _ in range(2):  # the first one chooses kernels
                drawn = self.clock()
                sample_sheet(learner.denoiser(), picture)
                synchronize(processes.device)
            return Reserve(before - begun, saved - before, SHOWN * (self.clock() - drawn))


def adopted(run: Path, recipe: Recipe) -> float:
    """Let a finished run continue with the settings that a session may choose.

    Returns:
        Its seconds of training so far.
    """
    state = load_state(run)
    save_state(replace(state, recipe=as_here(state.recipe, recipe)), run)
    shutil.rmtree(run / BEFORE_COOLDOWN, ignore_errors=True)
    return state.elapsed


def as_here(recipe: Recipe, here: Recipe) -> Recipe:
    """Return a recipe with another one's settings for the machine and its cool-down."""
    keys = ("compile", "workers", "checkpoint_minutes", "log_steps")
    run = replace(recipe.run, **{key: getattr(here.run, key) for key in keys})
    return replace(
        recipe, run=run, schedule=replace(recipe.schedule, cooldown=here.schedule.cooldown)
    )


def process_age() -> float:
    """Return the seconds since this process began, imports included; 0 if they are unknown."""
    try:
        began = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19]) / os.sysconf(
            "SC_CLK_TCK"
        )
        return time.clock_gettime(time.CLOCK_BOOTTIME) - began
    except (OSError, AttributeError, ValueError):
        return 0.0


def _check(asked: Session) -> None:
    """Refuse settings that contradict each other, before anything is unpacked."""
    if (asked.predictor_recipe is None) != (not asked.predictor_seconds):
        raise BadArgument("--predictor-recipe and --predictor-minutes go together")
    if index_path(asked.packed, STATE).is_file() and (
        asked.init is not None or asked.predictor_recipe is not None
    ):
        raise BadArgument(
            f"{asked.packed}: holds a state to go on with; leave --init and the predictor's recipe "
            "out, or pack the photographs alone"
        )


def _changed(path: Path) -> int:
    """Return when a file was last written, in nanoseconds; 0 if there is none."""
    return path.stat().st_mtime_ns if path.is_file() else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)

    pack = commands.add_parser("pack", help="photographs into files that can travel")
    pack.add_argument("photographs", type=Path)
    pack.add_argument("out", type=Path)
    pack.add_argument(
        "--limit", type=size_of, default=30 * MIB, help="of all files together, as 30MiB"
    )
    pack.add_argument(
        "--reduce", choices=("window", "halve"), default="window", help="what does not fit"
    )
    pack.add_argument(
        "--licences", type=Path, help="CSV: file, source, licence; default PHOTOGRAPHS.csv if there"
    )
    pack.add_argument("--count", type=int, help="so many photographs at most")

    state = commands.add_parser(
        "pack-state", help="the state of a run folder into files that can travel"
    )
    state.add_argument("run", type=Path)
    state.add_argument("out", type=Path)
    state.add_argument("--limit", type=size_of, default=LIMIT)

    _add_run(commands.add_parser("run", help="unpack, train and pack within the time"))

    unpack = commands.add_parser("unpack-state", help="a packed state into a run folder")
    unpack.add_argument("packed", type=Path)
    unpack.add_argument("run", type=Path)
    unpack.add_argument("--workers", type=int, help="[run] workers here")
    unpack.add_argument("--eager", action="store_true", help="[run] compile = false here")

    return parser


def _add_run(run: argparse.ArgumentParser) -> None:
    run.add_argument("packed", type=Path)
    run.add_argument("out", type=Path)
    run.add_argument("--recipe", type=Path, required=True)
    run.add_argument("--minutes", type=float, default=13.0, help="for everything")
    run.add_argument("--seconds", type=float, help="for everything, instead of minutes")
    run.add_argument(
        "--predictor-recipe", type=Path, help="of a training of the predictor alone, before"
    )
    run.add_argument("--predictor-minutes", type=float, default=0.0)
    run.add_argument(
        "--init", help="start from these weights: a shipped model's name or a .safetensors file"
    )
    run.add_argument("--device", default="auto")
    run.add_argument(
        "--work", type=Path, help="folder for what does not travel; a run in it is gone on with"
    )
    run.add_argument("--validation", type=Path, help="pictures for the samples")
    run.add_argument("--limit", type=size_of, default=LIMIT)


def main() -> int:
    """Run the command line; return the exit code, which is 130 after an interruption."""
    started = time.monotonic() - process_age()
    arguments = _parser().parse_args()
    keep_freed_memory()

    try:
        _COMMANDS[arguments.command](arguments, started)
    except RestoreError as error:
        print(f"short_gpu_run: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130

    return 0


def _pack(arguments: argparse.Namespace, _: float) -> None:
    beside = arguments.photographs.with_name(f"{arguments.photographs.name}.csv")
    licences = arguments.licences or (beside if beside.is_file() else None)
    packed = pack_pictures(
        arguments.photographs,
        arguments.out,
        arguments.limit,
        reduce=arguments.reduce,
        licences=licences,
        count=arguments.count,
        notice=_say,
    )

    for reason in packed.skipped:
        _say(f"skipped: {reason}")

    _say(str(packed))
    unknown = sum(not entry.licence for entry in packed.entries)
    _say(
        f"{unknown} photographs without a known licence"
        if unknown
        else "the index lists every licence"
    )


def _pack_state(arguments: argparse.Namespace, _: float) -> None:
    _say(str(pack_state(arguments.run, arguments.out, arguments.limit)))


def _run(arguments: argparse.Namespace, started: float) -> None:
    asked = Session(
        arguments.packed,
        arguments.out,
        arguments.recipe,
        60 * arguments.minutes if arguments.seconds is None else arguments.seconds,
        arguments.predictor_recipe,
        60 * arguments.predictor_minutes,
        arguments.init,
        arguments.device,
        arguments.work,
        arguments.validation,
        arguments.limit,
    )
    try:
        session(asked, _say, time.monotonic, started)
    finally:
        files = sorted(arguments.out.glob("*"))
        _say(f"{time.monotonic() - started:.1f} s in all; {len(files)} files in {arguments.out}:")
        for file in files:
            _say(f"  {file.name}: {mebibytes(file.stat().st_size)}")


def _unpack_state(arguments: argparse.Namespace, _: float) -> None:
    def here(recipe: Recipe) -> Recipe:
        workers = recipe.run.workers if arguments.workers is None else arguments.workers
        return replace(
            recipe,
            run=replace(
                recipe.run, workers=workers, compile=recipe.run.compile and not arguments.eager
            ),
        )

    state = unpack_state(arguments.packed, arguments.run, here)
    _say(
        f"{arguments.run}: the state after step {state.step}, {state.elapsed / 60:.1f} minutes of "
        "training"
    )


def _say(text: str) -> None:
    print(text, flush=True)


_COMMANDS: dict[str, Callable[[argparse.Namespace, float], None]] = {
    "pack": _pack,
    "pack-state": _pack_state,
    "run": _run,
    "unpack-state": _unpack_state,
}

if __name__ == "__main__":
    sys.exit(main())
