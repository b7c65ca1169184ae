"""The plan of a run: input files and output files, determined before any work."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from restore.errors import BadArgument, FileAccess, NothingToDo
from restore.files import looked_up, refuse_irregular, refuse_long
from restore.jobs.companions import NO_MASKS, NO_STARTS, Companions
from restore.jobs.inputs import Source, named, pictures_of, root_of_all
from restore.jobs.manifest import State
from restore.jobs.measurement import MEASUREMENT_SUFFIXES
from restore.jobs.output import AS_INPUT, OutputOptions
from restore.jobs.selection import Shard, check_input, is_pattern, root_of, shared_out
from restore.jobs.walk import PassedOver
from restore.photo.photograph import SUFFIXES, count_pages


@dataclass(frozen=True)
class Job:
    """One picture to restore or to degrade.

    Attributes:
        source: input file.
        target: output file.
        companion: file that goes with the input, such as a mask.
        measurement: output file for the numbers of a degraded picture.
        comparison: output file for before and after side by side.
        kernel: output file for the estimated blur kernel.
        mask: output file for the mask of scratches that were found.
        page: page of the source, from 1; None if it has only one.
        start: file of the initial picture.
        place: path of the source below the input folder, where it is not in one.
        replaces: True if the outputs that exist are half of those of a killed run.
    """

    source: Path
    target: Path
    companion: Path | None = None
    measurement: Path | None = None
    comparison: Path | None = None
    kernel: Path | None = None
    mask: Path | None = None
    page: int | None = None
    start: Path | None = None
    place: PurePath | None = None
    replaces: bool = False

    @property
    def source_name(self) -> str:
        """Name for messages: the file, and its page if it has several."""
        return str(self.source) if self.page is None else f"{self.source} (page {self.page})"

    def below(self, root: Path) -> str:
        """Return the path of the picture below a folder, with forward slashes, and its page."""
        place = self.place or self.source.relative_to(root)
        name = place.as_posix()
        return name if self.page is None else f"{name}#page={self.page}"


@dataclass(frozen=True)
class Wanted:
    """Options of a plan besides input and output.

    Attributes:
        masks: companions of the pictures, such as masks.
        overwrite: True to overwrite existing outputs.
        resume: True to skip pictures of a folder whose outputs exist, which are an error otherwise.
        samples: number of samples of each picture.
        strips: True to write before and after beside every target.
        output: options of output files.
        files_from: a list of the files to take from the folder, see
            `restore.jobs.selection.listed`.
        shard: the part of the folder that belongs to this run.
        state: ``state(job)`` is the state of a picture whose outputs exist.
        pages: True to treat every page of a file as a picture.
        starts: initial pictures.
        reads_measurements: True if measurements count as pictures; a picture beside the measurement
            of its name is then skipped.
        writes_measurements: True to write a measurement beside every picture.
        kernels: True to write the estimated blur kernel beside every target.
        suffixes: suffixes, in lower case, of the files that are taken from a folder.
        found_masks: True to write the mask of scratches that were found beside every target.
    """

    masks: Companions = NO_MASKS
    overwrite: bool = False
    resume: bool = True
    samples: int = 1
    strips: bool = False
    output: OutputOptions = AS_INPUT
    files_from: Path | None = None
    shard: Shard | None = None
    state: Callable[[Job], State] = lambda job: "unknown"
    pages: bool = False
    starts: Companions = NO_STARTS
    reads_measurements: bool = False
    writes_measurements: bool = False
    kernels: bool = False
    suffixes: frozenset[str] = SUFFIXES
    found_masks: bool = False


@dataclass(frozen=True)
class Plan:
    """The jobs of a run.

    Attributes:
        jobs: pictures to restore.
        root: input folder; None for a single picture, whose failure ends the run.
        target: output file, or output folder.
        left: existing targets that stay unchanged, with their states.
        passed_over: what the folder holds that was not taken, such as hidden folders, as text.
    """

    jobs: list[Job]
    root: Path | None
    target: Path
    left: dict[Path, State] = field(default_factory=dict)
    passed_over: str = ""

    @property
    def is_folder(self) -> bool:
        return self.root is not None

    def name(self, job: Job) -> str:
        """Return `Job.below` of the input folder."""
        return job.below(self.root or job.source.parent)


def folder_of(source: Source, target: Path | None, task: str) -> tuple[Path, Path] | None:
    """Return input folder and output folder, ``NAME-TASK`` by default; None for a file.

    The input folder of a pattern (``photos/**/*.jpg``) is the one above its first wildcard, that of
    several inputs the one that holds them all.

    Raises:
        BadArgument: several inputs without an output folder, or with stdin among them.
        FileAccess: one of several inputs is not there.
    """
    if isinstance(source, tuple):
        if target is None:
            raise BadArgument(f"{named(source)}: need a folder for the results; give `output`")
        refuse_long(target, "give another OUT")
        return root_of_all(source), target

    root = root_of(source) if is_pattern(source) else source
    with looked_up(root):
        if not root.is_dir():
            return None

    place = Path(os.path.abspath(root))
    target = target or place.with_name(f"{place.name}-{task}")
    refuse_long(target, "give another OUT")
    return root, target


def plan_run(source: Source, target: Path | None, task: str, wanted: Wanted | None = None) -> Plan:
    """Find input files and output files before any work.

    A file goes to ``target``, or into it if that is a folder, or to ``NAME-TASK.SUFFIX`` beside
    itself; its pages go to ``NAME.pageN.SUFFIX``. A folder is traversed recursively and mirrored
    into ``target``, or into ``NAME-TASK`` beside it; pictures whose outputs exist are skipped
    unless they may be overwritten. Several files go into the folder ``target``, under their names.

    Args:
        source: a file, folder or pattern, or several of them.
        target: a file or folder; None takes the default.
        task: name of the task, for default names.
        wanted: options of the plan.

    Raises:
        FileAccess: no such input, an existing or unwritable target, or a target that is an input.
        BadArgument: a target of an unknown format or one that contradicts the options, a missing
            mask, two pictures with one target, or a list or shard of a single file.
        NothingToDo: no picture in the folder, or all done already.
    """
    wanted = wanted or Wanted()
    folders = folder_of(source, target, task)
    if isinstance(source, tuple):
        _refuse_of_folders(wanted, f"there are {named(source)}")
    if folders is not None:
        return _plan_folder(source, *folders, wanted)

    assert isinstance(source, Path)
    if is_pattern(source):
        raise FileAccess(f"{source}: no such file or folder")
    check_input(source)

    _refuse_of_folders(wanted, f"{source} is a file")

    place = _place_of(source, target, task, wanted)
    jobs = _jobs(source, place, PurePath(source.name), wanted)
    _refuse_long(jobs, wanted, "give OUT, a shorter one" if target is None else "give another OUT")

    for job in jobs:
        _check_target(job, wanted)

    return Plan(jobs, None, place)


def _refuse_of_folders(wanted: Wanted, why: str) -> None:
    """Refuse options that are for a folder.

    Raises:
        BadArgument: one is given.
    """
    for option, given in (("`files_from`", wanted.files_from), ("`shard`", wanted.shard)):
        if given is not None:
            raise BadArgument(f"{option}: is for a folder, and {why}")


def _place_of(source: Path, target: Path | None, task: str, wanted: Wanted) -> Path:
    """Return the output of a file."""
    suffix = wanted.output.suffix(source)
    if target is None:
        return source.with_name(f"{source.stem}-{task}{suffix}")
    with looked_up(target, to_write=True):
        return target / f"{source.stem}{suffix}" if target.is_dir() else target


def _plan_folder(source: Source, root: Path, target: Path, wanted: Wanted) -> Plan:
    if target.exists() and not target.is_dir():
        raise FileAccess(
            f"{target}: the input is a folder, or several pictures, so the output must be a "
            "folder, and this is a file"
        )

    check_writable(target)
    found = []
    passed = PassedOver()
    chosen = _chosen(source, root, target, wanted, passed)

    for path in shared_out(chosen, root, wanted.shard):
        output = (target / chosen[path]).with_suffix(wanted.output.suffix(path))
        place = None if isinstance(source, Path) else chosen[path]
        found += [replace(job, place=place) for job in _jobs(path, output, chosen[path], wanted)]

    _refuse_long(found, wanted, "rename the picture or give another OUT")
    _refuse_inputs(found, wanted.samples)
    _refuse_shared(found, wanted.samples)
    states = {} if wanted.overwrite else {j.target: wanted.state(j) for j in _begun(found, wanted)}
    left: dict[Path, State] = {t: s for t, s in states.items() if s != "unfinished" and t.is_file()}
    if left and not wanted.resume:
        raise FileAccess(
            f"{next(iter(left))}: exists already; `resume` leaves it, `overwrite` replaces it"
        )

    jobs = [
        replace(job, replaces=states.get(job.target) == "unfinished")
        for job in found
        if job.target not in left
    ]
    if not jobs and left:
        raise NothingToDo(
            f"all {len(left)} pictures of {named(source)} are in {target} already; {redo(left)}"
        )

    if not jobs:
        share = f" for shard {wanted.shard.part}" if wanted.shard else ""
        over = f"; passed over: {passed}" if passed else ""
        raise NothingToDo(
            f"{named(source)}: no picture in this folder{share} (looked for "
            f"{', '.join(sorted(SUFFIXES))})"
            f"{over}"
        )

    return Plan(jobs, root, target, left, str(passed))


def _begun(jobs: list[Job], wanted: Wanted) -> list[Job]:
    """Return the jobs of which an output exists."""
    return [j for j in jobs if any(path.exists() for path in _output_paths(j, wanted.samples))]


def redo(left: dict[Path, State]) -> str:
    """Return a message about pictures that are skipped."""
    states = list(left.values())
    differing = {
        "restored with other options": states.count("other options"),
        "of inputs that have changed since": states.count("changed"),
        "whose outputs have changed since": states.count("altered"),
    }
    said = [f"{count} {what}" for what, count in differing.items() if count]
    return f"{', '.join(said)}{': ' if said else ''}`overwrite` redoes them"


def _chosen(
    source: Source, root: Path, target: Path, wanted: Wanted, passed: PassedOver
) -> dict[Path, PurePath]:
    """Return the pictures to restore with their places, and count what is passed over."""
    suffixes = wanted.suffixes
    if wanted.reads_measurements:
        suffixes |= MEASUREMENT_SUFFIXES
    companions = (wanted.masks, wanted.starts)
    own = [one.given for one in companions if one.given is not None]
    found = pictures_of(
        source,
        root,
        suffixes,
        leave_out=[target, *own],
        files_from=wanted.files_from,
        passed=passed,
    )
    return {p: place for p, place in found.items() if not any(one.takes(p) for one in companions)}


def _jobs(source: Path, target: Path, place: PurePath, wanted: Wanted) -> list[Job]:
    """Return the job of a file, or one for each page."""
    wanted.output.check(target)
    companion = wanted.masks.of(source, place)
    start = wanted.starts.of(source, place)

    def job(target: Path, page: int | None = None) -> Job:
        strip = comparison_file(target) if wanted.strips else None
        measurement = target.with_suffix(".npz") if wanted.writes_measurements else None
        kernel = target.with_name(f"{target.stem}.kernel.npy") if wanted.kernels else None
        mask = target.with_name(f"{target.stem}.mask.png") if wanted.found_masks else None
        return Job(source, target, companion, measurement, strip, kernel, mask, page, start)

    count = count_pages(source) if wanted.pages and source.suffix.lower() in SUFFIXES else 1

    return (
        [job(target)]
        if count == 1
        else [job(page_file(target, n, count), n) for n in range(1, count + 1)]
    )


def page_file(target: Path, page: int, count: int) -> Path:
    """Return ``NAME.page2.SUFFIX``, with as many digits as ``count`` has."""
    return target.with_name(f"{target.stem}.page{page:0{len(str(count))}}{target.suffix}")


def comparison_file(target: Path) -> Path:
    """Return ``NAME.compare.png`` beside the target."""
    return target.with_name(f"{target.stem}.compare.png")


def _check_target(job: Job, wanted: Wanted) -> None:
    _refuse_inputs([job], wanted.samples)
    refuse_existing_outputs(job, wanted.overwrite, wanted.samples)
    check_writable(job.target.parent)


def _refuse_long(jobs: list[Job], wanted: Wanted, remedy: str) -> None:
    """Refuse outputs whose names are too long, those of samples and comparisons included."""
    for job in jobs:
        for path in _output_paths(job, wanted.samples):
            refuse_long(path, remedy)


def _refuse_inputs(jobs: list[Job], samples: int) -> None:
    """Refuse outputs that are a picture, mask or start of the run, under any name."""
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
    """Refuse pictures that share an output."""
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
    """Refuse existing outputs unless they may be overwritten.

    Raises:
        FileAccess: an output exists, or a folder, pipe or device has its name.
    """
    paths = _output_paths(job, samples)
    for path in paths:
        refuse_irregular(path)

    existing = [path for path in paths if os.path.lexists(path)]
    if existing and not overwrite:
        raise FileAccess(f"{existing[0]}: exists already; `overwrite` replaces it")


def identity(path: Path) -> tuple[int, int]:
    """Return device and inode of a file, which are equal for all its names."""
    status = path.stat()
    return status.st_dev, status.st_ino


def check_writable(folder: Path) -> None:
    """Check that a folder, or the nearest existing one above it, is writable.

    Raises:
        FileAccess: it is not.
    """
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent

    if not place.is_dir():
        raise FileAccess(f"{folder}: cannot be written to, because {place} is a file")
    if not os.access(place, os.W_OK | os.X_OK):
        raise FileAccess(f"{folder}: cannot be written to; {_why_not_writable(place)}")


def _why_not_writable(folder: Path) -> str:
    if hasattr(os, "statvfs") and os.statvfs(folder).f_flag & os.ST_RDONLY:
        return f"{folder} is on a read-only file system"
    return f"no permission for {folder}"


def _output_paths(job: Job, samples: int) -> list[Path]:
    """Return all output files of a job, the target first."""
    if job.measurement is not None:
        return [job.target, job.measurement]
    return [
        *sample_paths(job.target, samples),
        *([] if job.comparison is None else [job.comparison]),
        *([] if job.kernel is None else [job.kernel]),
        *([] if job.mask is None else [job.mask]),
    ]


def sample_paths(target: Path, samples: int) -> list[Path]:
    """Return the target and, for several samples, the files beside it."""
    if samples < 2:
        return [target]
    numbered = [
        target.with_name(f"{target.stem}.sample{k}{target.suffix}") for k in range(1, samples + 1)
    ]
    return [target, *numbered, target.with_name(f"{target.stem}.std.png")]
