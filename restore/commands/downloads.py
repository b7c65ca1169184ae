"""Public checkpoints for the command: prompts, downloads, lists and cards."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pretrained
from pretrained import store
from pretrained.catalogue import Entry, classifiers, entries, latent_models, metrics
from pretrained.download import CacheError, Progress, is_offline
from pretrained.errors import CheckpointError
from pretrained.store import Installed, Source
from restore.errors import BadArgument, FileAccess, Unavailable
from restore.messages import say


@contextmanager
def told() -> Iterator[None]:
    """Turn errors of checkpoints into errors of the command.

    Raises:
        FileAccess: the cache folder cannot be used.
        Unavailable: anything else.
    """
    try:
        yield
    except CacheError as error:
        raise FileAccess(str(error)) from None
    except CheckpointError as error:
        raise Unavailable(str(error)) from None


def known(name: str) -> Source:
    """Return a checkpoint by name.

    Raises:
        BadArgument: there is none; the text suggests similar names.
    """
    with told():
        source = store.source_of(name)

    if name in pretrained.SHIPPED:
        raise BadArgument(f"{name}: is in the package; there is nothing to get, verify or remove")
    if source is None:
        near = pretrained.nearest(name, [*entries(), *latent_models(), *classifiers(), *metrics()])
        raise BadArgument(
            f"{name}: no such model; "
            + (f"did you mean {' or '.join(near)}?" if near else "restore models lists them")
        )

    return source


def ensure(model: str, *, yes: bool = False, option: str = "model") -> None:
    """Install a public checkpoint that is named and missing, before any work.

    Args:
        model: as a user gives it; files and what is installed are left alone.
        yes: download at once instead of asking the person at the terminal.
        option: name of the parameter that it was given as, for errors.

    Raises:
        Unavailable: no terminal to ask, a refusal, or a failed download.
    """
    try:
        source = store.source_of(model)
        if source is not None and not source.is_metric and store.installed(source) is None:
            (agree if yes else ask)(source)
    except CheckpointError as error:
        reason = str(error).removeprefix(f"{model}: ")
        raise Unavailable(f"`{option}`={model}: {reason}") from None


def ask(source: Source) -> None:
    """Install a missing checkpoint if the person at the terminal agrees.

    Raises:
        CheckpointError: no terminal to ask, a refusal, or a failed download.
    """
    if is_offline() or not can_ask() or not _is_downloadable(source):
        pretrained.refuse(source)
    if not agreed(source):
        raise CheckpointError(f"{source.name} is not installed and was not downloaded")
    install(source)


def agree(source: Source) -> None:
    """Install a missing checkpoint without asking.

    Raises:
        CheckpointError: the download failed, or there is no address.
    """
    if not _is_downloadable(source):
        pretrained.refuse(source)
    install(source, quiet=not sys.stderr.isatty())


def can_ask() -> bool:
    """Return True if stdin and stderr are a terminal."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def agreed(source: Source) -> bool:
    """Show what would be downloaded, and ask for consent."""
    import typer

    say(f"{source.name}: {_size_of_hub(source)}{pretrained.offer(source)}")
    return typer.confirm("Download it?", default=False, err=True)


def install(source: Source, local: Path | None = None, *, quiet: bool = False) -> Installed:
    """Download a checkpoint with a progress bar, and report where it is and how it was checked.

    Raises:
        CheckpointError: see `pretrained.store.install`.
    """
    with _bar(source.name, quiet) as progress:
        found = store.install(source, progress, local=local, notice=say)
    if not quiet:
        say(f"{source.name}: {found.size / 1e6:,.0f} MB in {found.folder}; {checked(found)}")
    return found


def checked(found: Installed) -> str:
    """Return how the files of an installed checkpoint were verified."""
    pinned = [name for name, facts in found.files.items() if facts["digest"] == "pinned"]
    if not pinned:
        return "compared with the published digest"
    return f"nobody published a digest of {', '.join(pinned)}: pinned at the first download"


def table() -> list[dict[str, Any]]:
    """Return all checkpoints for ``restore models``: shipped, in the catalogue, installed.

    Raises:
        FileAccess: the cache folder cannot be read.
    """
    with told():
        there = store.all_installed()

    shipped = pretrained.checkpoint_path("default")
    use = "any photograph: the small network in the package"
    size = shipped.stat().st_size
    rows = [_row("default", "shipped", size, True, pretrained.SHIPPED_LICENCE, use)]

    for name, entry in {**entries(), **latent_models(), **classifiers(), **metrics()}.items():
        found = there.pop(name, None)
        size, exact = (found.size, True) if found else (entry.size, entry.size_is_published)
        rows.append(_row(name, _state(entry, found), size, exact, entry.licence, entry.use))

    rows += [
        _row(name, "installed", found.size, True, "see its page", "")
        for name, found in there.items()
    ]

    return rows


def _row(name: str, state: str, size: int, exact: bool, licence: str, use: str) -> dict[str, Any]:
    return {
        "name": name,
        "state": state,
        "size_bytes": size,
        "exact": exact,
        "licence": licence,
        "for": use,
    }


def _state(entry: Entry, found: Installed | None) -> str:
    if found is not None:
        return "installed"
    return "available" if entry.is_downloadable else "by hand"


def card(source: Source) -> dict[str, Any]:
    """Return the card of a checkpoint for ``restore models show``.

    Raises:
        FileAccess: the cache folder cannot be read.
    """
    with told():
        found = store.installed(source)

    facts: dict[str, Any] = {"name": source.name}
    if source.entry is not None:
        facts |= _published(source.entry)
    if source.repository:
        facts["repository"] = (
            f"{source.repository}@{(found.commit if found else '') or source.revision}"
        )

    facts["installed"] = found is not None
    if found is not None:
        facts |= {
            "folder": str(found.folder),
            "size_bytes": found.size,
            "sha256": found.sha256,
            "checked": checked(found),
        }

    return facts


def _published(entry: Entry) -> dict[str, Any]:
    file = entry.file
    facts = {
        "title": entry.title,
        "for": entry.use,
        "licence": entry.licence,
        "training": entry.training,
        "resolution": entry.resolution,
        "parameters": entry.parameters,
        "layout": entry.layout,
        "traps": entry.traps or None,
        "page": entry.page,
        "file": file.name if file else None,
        "addresses": list(file.addresses) or "unknown: fetch it from its page and give it as FILE"
        if file
        else None,
        "size_bytes": entry.size,
        "size_is_published": entry.size_is_published,
        "sha256": file.sha256 if file else None,
        "md5": file.md5 if file else None,
    }
    if "backbone" in entry.config:
        facts["config"] = {**entry.config, "backbone": dict(entry.config["backbone"])}
    elif entry.config:
        facts["config"] = dict(entry.config)

    return {name: value for name, value in facts.items() if value is not None}


def shown(facts: Mapping[str, Any]) -> Iterator[str]:
    """Format a card as lines."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield f"{name:<12}  " + "; ".join(_pairs(value))
        elif name == "size_bytes":
            about = "" if facts.get("size_is_published", True) or facts["installed"] else "about "
            yield f"{'size':<12}  {about}{value / 1e6:,.0f} MB"
        elif name != "size_is_published":
            for line in value if isinstance(value, list) else [value]:
                yield f"{name:<12}  {_word(line)}"


def _pairs(table: Mapping[str, Any]) -> Iterator[str]:
    for name, value in table.items():
        yield (
            f"{name} ({', '.join(_pairs(value))})"
            if isinstance(value, Mapping)
            else f"{name} {_word(value)}"
        )


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _is_downloadable(source: Source) -> bool:
    return source.entry is None or source.entry.is_downloadable


def _size_of_hub(source: Source) -> str:
    """Return the size by the hub of a repository that is not in the catalogue."""
    if source.entry is not None:
        return ""
    sizes = [file.size for file in source.listing().files]
    return (
        f"{sum(size or 0 for size in sizes) / 1e6:,.0f} MB, " if all(sizes) else "of unknown size, "
    )


@contextmanager
def _bar(name: str, quiet: bool) -> Iterator[Progress]:
    """Show a progress bar with rate and time left, on a terminal only."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    console = Console(file=sys.stderr, emoji=False)
    hidden = quiet or not sys.stderr.isatty()

    with Bars(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=hidden
    ) as bars:
        task = bars.add_task(name, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
