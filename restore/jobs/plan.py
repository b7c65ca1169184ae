"""Which picture files a run takes and where they go, found out before any work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from restore.errors import BadArgument, FileAccess, NothingToDo
from restore.jobs.manifest import State
from restore.jobs.measurement import MEASUREMENT_SUFFIXES
from restore.jobs.output import AS_INPUT, OutputOptions
from restore.jobs.selection import Shard, is_pattern, listed, matched, root_of, shared_out
from restore.photo.photograph import SUFFIXES, count_pages


@dataclass(frozen=True)
class Job:
    """One picture to restore, or to degrade."""

    source: Path
    target: Path
    companion: Path | None = None
    measurement: Path | None = None
    """Where the numbers of a degraded picture go."""
    comparison: Path | None = None
    """Where before and after go, side by side."""
    page: int | None = None
    """Of the source, from 1, where it has several."""
    start: Path | None = None
    """A picture to begin with."""

    @property
    def source_name(self) -> str:
        """For people: the file, and its page where it has several."""
        return str(self.source) if self.page is None else f"{self.source} (page {self.page})"

    def below(self, root: Path) -> str:
        """The picture's path below a folder, with forward slashes, and its page."""
        place = self.source.relative_to(root).as_posix()
        return place if self.page is None else f"{place}#page={self.page}"


@dataclass(frozen=True)
class Wanted:
    """What a plan depends on besides input and output.

    Attributes:
        companion: what goes with each picture, such as a mask: a file for all, or a folder of them.
        overwrite: whether outputs that exist are replaced.
        resume: whether pictures of a folder whose outputs exist are left out; it is an error
            otherwise.
        samples: how many are drawn of each picture.
        strips: whether every target has its comparison beside it.
        output: how pictures are written.
        files_from: a list of the files of the folder that are taken, see
            `restore.jobs.selection.listed`.
        shard: the run's share of the folder.
        state: what is known of a picture whose outputs exist.
        pages: whether every page of a file is a picture of its own.
        start: a picture to begin with: a file for all, or a folder of them.
        reads_measurements: whether measurements count as pictures; a picture beside the measurement
            of its name is left out then.
        writes_measurements: whether every picture has its measurement beside it.
    """

    companion: Path | None = None
    overwrite: bool = False
    resume: bool = True
    samples: int = 1
    strips: bool = False
    output: OutputOptions = AS_INPUT
    files_from: Path | None = None
    shard: Shard | None = None
    state: Callable[[Job], State] = lambda job: "unknown"
    pages: bool = False
    start: Path | None = None
    reads_measurements: bool = False
    writes_measurements: bool = False


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes:
        jobs: the pictures to restore.
        left: targets that exist already and stay as they are, with what is known of them.
        root: the folder that is restored; None for a single picture, whose failure ends the run.
        target: the output, or the folder of the outputs.
    """

    jobs: list[Job]
    root: Path | None
    target: Path
    left: dict[Path, State] = field(default_factory=dict)

    @property
    def is_folder(self) -> bool:
        return self.root is not None

    def name(self, job: Job) -> str:
        """See `Job.below`; of the input folder."""
        return job.below(self.root or job.source.parent)


def folder_of(source: Path, target: Path | None, task: str) -> tuple[Path, Path] | None:
    """The folder that is restored and the one of the outputs, ``NAME-TASK`` beside it; None where
    ``source`` is a file.

    A pattern (``photos/**/*.jpg``) is the folder above its first wildcard.
    """
    root = root_of(source) if is_pattern(source) else source
    if not root.is_dir():
        return None
    place = Path(os.path.abspath(root))
    return root, target or place.with_name(f"{place.name}-{task}")


def plan_run(source: Path, target: Path | None, task: str, wanted: Wanted | None = None) -> Plan:
    """Find the pictures and where they go, before any work.

    A file goes to ``target``, or into it if that is a folder, or to ``NAME-TASK.SUFFIX`` beside
    itself; where its pages are taken one by one, each goes to ``NAME.pageN.SUFFIX`` of that. A
    folder is walked and mirrored into ``target``, or into ``NAME-TASK`` beside it; pictures whose
    outputs exist are left out unless they may be replaced. For the task ``solve`` measurements
    count as pictures, and a picture beside the measurement of its name is left out; of the task
    ``degrade`` every picture has its measurement beside it.

    Raises:
        FileAccess: no such input, an existing or unwritable target, or a target that is an input.
        BadArgument: a target of an unknown format or one that cannot be written as asked, a mask
            that is missing, two pictures that would be written to one target, or a list or shard of
            a single file.
        NothingToDo: no picture in the folder, or all done already.
    """
    wanted = wanted or Wanted()
    folders = folder_of(source, target, task)
    if folders is not None:
        return _plan_folder(source, *folders, task, wanted)
    if not source.exists():
        raise FileAccess(f"{source}: no such file or folder")

    for option, given in (("`files_from`", wanted.files_from), ("`shard`", wanted.shard)):
        if given is not None:
            raise BadArgument(f"{option}: is for a folder, and {source} is a file")

    suffix = wanted.output.suffix(source)
    if target is None:
        target = source.with_name(f"{source.stem}-{task}{suffix}")
    elif target.is_dir():
        target = target / f"{source.stem}{suffix}"

    jobs = _jobs(source, target, source.parent, task, wanted)

    for job in jobs:
        _check_target(job, wanted)

    return Plan(jobs, None, target)


def _plan_folder(source: Path, root: Path, target: Path, task: str, wanted: Wanted) -> Plan:
    if target.exists() and not target.is_dir():
        raise FileAccess(
            f"{target}: the input is a folder, so the output must be one too, and this is a file"
        )

    check_writable(target)
    found = []

    for path in shared_out(_chosen(source, root, target, task, wanted), root, wanted.shard):
        place = (target / path.relative_to(root)).with_suffix(wanted.output.suffix(path))
        found += _jobs(path, place, root, task, wanted)

    _refuse_inputs(found, wanted.samples)
    _refuse_shared(found, wanted.samples)
    left = (
        {} if wanted.overwrite else {j.target: wanted.state(j) for j in found if j.target.exists()}
    )
    if left and not wanted.resume:
        raise FileAccess(
            f"{next(iter(left))}: exists already; `resume` leaves it, `overwrite` replaces it"
        )

    jobs = [job for job in found if job.target not in left]
    if not jobs and left:
        raise NothingToDo(
            f"all {len(left)} pictures of {source} are in {target} already; {redo(left)}"
        )

    if not jobs:
        share = f" for shard {wanted.shard.part}" if wanted.shard else ""
        raise NothingToDo(
            f"{source}: no picture in this folder{share} (looked for {', '.join(sorted(SUFFIXES))})"
        )

    return Plan(jobs, root, target, left)


def redo(left: dict[Path, State]) -> str:
    """What a user must know of pictures that are left as they are."""
    states = list(left.values())
    differing = {
        "restored with other options": states.count("other options"),
        "of inputs that have changed since": states.count("changed"),
    }
    said = [f"{count} {what}" for what, count in differing.items() if count]
    return f"{', '.join(said)}{': ' if said else ''}`overwrite` redoes them"


def _chosen(source: Path, root: Path, target: Path, task: str, wanted: Wanted) -> Sequence[Path]:
    """The pictures of a folder, of a pattern or of a list."""
    suffixes = SUFFIXES | MEASUREMENT_SUFFIXES if wanted.reads_measurements else SUFFIXES
    if wanted.files_from is not None:
        return listed(root, wanted.files_from)
    if is_pattern(source):
        return [path for path in matched(source) if path.suffix.lower() in suffixes]
    return list(pictures_in(root, suffixes, leave_out=target))


def _jobs(source: Path, target: Path, root: Path, task: str, wanted: Wanted) -> list[Job]:
    """One, or one for each page."""
    wanted.output.check(target)
    companion = companion_for(wanted.companion, source, root)
    start = companion_for(wanted.start, source, root, "start")

    def job(target: Path, page: int | None = None) -> Job:
        strip = comparison_file(target) if wanted.strips else None
        measurement = target.with_suffix(".npz") if wanted.writes_measurements else None
        return Job(source, target, companion, measurement, strip, page, start)

    count = count_pages(source) if wanted.pages and source.suffix.lower() in SUFFIXES else 1

    return (
        [job(target)]
        if count == 1
        else [job(page_file(target, n, count), n) for n in range(1, count + 1)]
    )


def page_file(target: Path, page: int, count: int) -> Path:
    """``NAME.page2.SUFFIX``, with as many digits as the last of ``count`` pages has."""
    return target.with_name(f"{target.stem}.page{page:0{len(str(count))}}{target.suffix}")


def comparison_file(target: Path) -> Path:
    """``NAME.compare.png`` beside the target."""
    return target.with_name(f"{target.stem}.compare.png")


def pictures_in(
    folder: Path, suffixes: frozenset[str], leave_out: Path | None = None
) -> Iterator[Path]:
    """Files of these suffixes below a folder in name order; links to folders, and out of the
    folder, are not followed.

    A picture beside the measurement of its name is left out where measurements count.

    Raises:
        FileAccess: a sub-folder cannot be read.
    """
    root = folder.resolve()
    skipped = None if leave_out is None else leave_out.resolve()
    for parent, folders, files in os.walk(folder, onerror=_unreadable_folder):
        folders[:] = sorted(name for name in folders if (Path(parent) / name).resolve() != skipped)
        for name in sorted(files):
            path = Path(parent) / name
            inside = not path.is_symlink() or path.resolve().is_relative_to(root)
            shadowed = (
                ".npz" in suffixes
                and path.suffix != ".npz"
                and path.with_suffix(".npz").name in files
            )
            if (
                path.suffix.lower() in suffixes
                and not name.startswith(".")
                and inside
                and not shadowed
            ):
                yield path


def _unreadable_folder(error: OSError) -> None:
    raise FileAccess(f"{error.filename}: cannot be read: {error.strerror}") from error


def companion_for(given: Path | None, picture: Path, root: Path, what: str = "mask") -> Path | None:
    """Return the file itself, or the one in a folder with the picture's place and stem.

    Args:
        given: what a user named; None is nothing.
        picture: that it goes with.
        root: the folder of the pictures.
        what: the parameter, for errors.

    Raises:
        FileAccess: there is no such file or folder.
        BadArgument: the folder has none for the picture, or several.
    """
    if given is None or not given.is_dir():
        if given is not None and not given.exists():
            raise FileAccess(f"`{what}`={given}: no such file or folder")
        return given

    place = given / picture.relative_to(root).parent
    found = sorted(
        p for p in place.glob("*") if p.stem == picture.stem and p.suffix.lower() in SUFFIXES
    )
    if len(found) != 1:
        raise BadArgument(
            f"`{what}`={given}: {f'several {what}s' if found else f'no {what}'} for {picture} there"
        )

    return found[0]


def _check_target(job: Job, wanted: Wanted) -> None:
    _refuse_inputs([job], wanted.samples)
    refuse_existing_outputs(job, wanted.overwrite, wanted.samples)
    check_writable(job.target.parent)


def _refuse_inputs(jobs: list[Job], samples: int) -> None:
    """No output is a picture, a mask or a start of the run, under whatever name."""
    inputs = {
        identity(path)
        for job in jobs
        for path in (job.source, job.companion, job.start)
        if path and path.exists()
    }
    for job in jobs:
        for path in _output_paths(job, samples):
            if path.exists() and identity(path) in inputs:
                raise FileAccess(
                    f"{path}: is an input; an input is never overwritten, choose another output"
                )


def _refuse_shared(jobs: list[Job], samples: int) -> None:
    """No two pictures have an output in common."""
    owners: dict[Path, str] = {}
    for job in jobs:
        for path in _output_paths(job, samples):
            if path in owners:
                raise BadArgument(
                    f"{owners[path]} and {job.source_name} would both be written to {path}; rename "
                    "one"
                )
            owners[path] = job.source_name


def refuse_existing_outputs(job: Job, overwrite: bool, samples: int) -> None:
    """Raise FileAccess where an output exists and may not be replaced."""
    existing = [path for path in _output_paths(job, samples) if path.exists()]
    if existing and not overwrite:
        raise FileAccess(f"{existing[0]}: exists already; `overwrite` replaces it")


def identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def check_writable(folder: Path) -> None:
    """The folder, or the nearest one above it that exists, takes new files.

    Raises:
        FileAccess: it does not.
    """
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent

    if not place.is_dir():
        raise FileAccess(f"{folder}: cannot be written to, because {place} is a file")
    if not os.access(place, os.W_OK | os.X_OK):
        raise FileAccess(f"{folder}: cannot be written to; no permission for {place}")


def _output_paths(job: Job, samples: int) -> list[Path]:
    """The target and what is written beside it."""
    if job.measurement is not None:
        return [job.target, job.measurement]
    return [
        *sample_paths(job.target, samples),
        *([] if job.comparison is None else [job.comparison]),
    ]


def sample_paths(target: Path, samples: int) -> list[Path]:
    """The target and, for several samples, what is written beside it."""
    if samples < 2:
        return [target]
    numbered = [
        target.with_name(f"{target.stem}.sample{k}{target.suffix}") for k in range(1, samples + 1)
    ]
    return [target, *numbered, target.with_name(f"{target.stem}.std.png")]
