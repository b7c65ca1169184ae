"""What a run is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from restore.errors import BadArgument
from restore.jobs.batches import check_batch
from restore.jobs.inputs import Source, named
from restore.jobs.output import AS_INPUT, OutputOptions
from restore.jobs.ray_engine import Cluster
from restore.jobs.selection import Shard
from restore.methods.options import Options
from restore.restorer import check
from restore.tasks import Task


@dataclass(frozen=True)
class Request:
    """Input, output and options of a run.

    Attributes:
        task: the task, whose companion option names a file or folder.
        source: a file, folder or pattern, or several of them.
        target: a file or folder; None takes the default.
        options: options of the restoration.
        output: options of output files.
        model: as for `restore.Restorer`.
        device: as for `restore.Restorer`.
        tile: as for `restore.Restorer`.
        memory: as for `restore.Restorer`.
        overwrite: True to overwrite existing outputs.
        resume: True to skip finished pictures of a folder.
        pages: True to restore each page of a file.
        allow_truncated: True to complete pictures whose files end too early.
        files_from: a list of the files to take from the folder.
        shard: the part of the folder that belongs to this run.
        dry_run: True to show what would be done.
        watch: True to watch the folder for new pictures.
        compare: True to write before and after side by side.
        report: file of the HTML report.
        cluster: Ray cluster that restores a folder; None is this process.
        quiet: True to show errors only.
        as_json: True to print a JSON object per picture.
        shown: names of paths in messages.
        batch: maximum batch size; None is what suits the device.
        wording: puts messages into the words of the caller, such as the command's options.

    Raises:
        BadArgument: invalid options, or options that contradict each other.
    """

    task: Task
    source: Source
    target: Path | None
    options: Options = field(default_factory=Options)
    output: OutputOptions = AS_INPUT
    model: str = "default"
    device: str = "auto"
    tile: int | None = None
    memory: str | None = None
    overwrite: bool = False
    resume: bool = True
    pages: bool = False
    allow_truncated: bool = False
    files_from: Path | None = None
    shard: Shard | None = None
    dry_run: bool = False
    watch: bool = False
    compare: bool = False
    report: Path | None = None
    cluster: Cluster | None = None
    quiet: bool = False
    as_json: bool = False
    shown: Mapping[Path, str] = field(default_factory=dict)
    batch: int | None = None
    wording: Callable[[str], str] = str

    def __post_init__(self) -> None:
        check_batch(self.batch)
        check(self.task, self.options)
        for name, given in (("`dry_run`", self.dry_run), ("`report`", self.report is not None)):
            if self.watch and given:
                raise BadArgument(
                    f"`watch` and {name}; a folder is watched without end, so give one of them"
                )

        if self.cluster is not None and self.watch:
            raise BadArgument("`engine`=ray and `watch`; that is for `engine`=local")
        if isinstance(self.source, tuple) and self.watch:
            raise BadArgument(f"`watch`: is for a folder, and there are {named(self.source)}")


def start_file(options: Options) -> Path | None:
    """Return the file or folder of the option ``start``; None for a network or a picture."""
    start = options.start
    return Path(start) if isinstance(start, str) and start not in options.networks else None
