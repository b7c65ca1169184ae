"""`restore models`: list, show, get, verify, remove and convert checkpoints."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from restore.errors import BadArgument, FileAccess, NothingToDo, Unavailable
from restore.messages import put, put_json, say

app = typer.Typer(
    help="List public checkpoints and which are installed; show, get, verify, remove, convert.",
    invoke_without_command=True,
)


def names(incomplete: str = "") -> list[str]:
    """Return the names of checkpoints that begin with the incomplete word, for completion."""
    from pretrained import SHIPPED, entries, latent_models

    known = (*SHIPPED, *entries(), *latent_models())
    return [name for name in known if name.startswith(incomplete)]


def classifier_names(incomplete: str = "") -> list[str]:
    """Return the names of classifiers that begin with the incomplete word, for completion."""
    from pretrained import classifiers

    return [name for name in classifiers() if name.startswith(incomplete)]


def _public_names(incomplete: str) -> list[str]:
    from pretrained.catalogue import classifiers, metrics

    known = [*names(), *classifiers(), *metrics()]
    return [name for name in known if name.startswith(incomplete) and name != "default"]


Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="Name of a checkpoint, or hf:OWNER/REPO[@REVISION].",
        autocompletion=_public_names,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error.", hidden=True)
]


@app.callback()
def models(
    context: typer.Context,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per checkpoint on stdout.")
    ] = False,
    debug: Debug = False,
) -> None:
    if context.invoked_subcommand is not None:
        return

    from pretrained.store import cache_folder
    from restore.commands.downloads import table

    rows = table()

    for row in rows:
        if as_json:
            put_json(row)
        else:
            put(_line(row))

    if not as_json:
        say(
            f"kept in {cache_folder()}; restore models show NAME tells all of one, restore models "
            "get NAME downloads it"
        )


@app.command()
def show(name: Name, as_json: Json = False, debug: Debug = False) -> None:
    """Show the card of a checkpoint: purpose, licence, training data, addresses, pitfalls."""
    from pretrained import SHIPPED, checkpoint_path
    from restore.commands.downloads import card, known, shown

    if name in SHIPPED:
        text = checkpoint_path(name).with_suffix(".md").read_text(encoding="utf-8")
        if as_json:
            put_json({"name": name, "card": text}, indent=1)
        else:
            typer.echo(text)
        return

    facts = card(known(name))
    if as_json:
        put_json(facts, indent=1)
        return

    for line in shown(facts):
        put(line)


@app.command()
def get(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Download without asking.")] = False,
    local: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Install this file instead of downloading."),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show errors only, no progress.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Download a checkpoint into the cache folder and verify it; asks first, unless --yes."""
    from pretrained import how_to_get, offer
    from pretrained.store import installed
    from restore.commands.downloads import agreed, can_ask, install, known, told

    source = known(name)
    if local is not None and not os.path.isfile(local):
        raise FileAccess(f"--from {local}: no such file")

    with told():
        if installed(source) is not None:
            raise NothingToDo(f"{name} is installed; restore models verify {name} checks it")
        if local is None and source.entry is not None and not source.entry.is_downloadable:
            raise Unavailable(f"{name}: {how_to_get(source)}")
        if local is None and not yes:
            if not can_ask():
                raise Unavailable(f"{name}: {offer(source)}; --yes downloads it")
            if not agreed(source):
                raise NothingToDo(f"{name} was not downloaded")
        install(source, local, quiet=quiet)


@app.command()
def verify(name: Name, debug: Debug = False) -> None:
    """Verify an installed checkpoint against the digests of its files."""
    from pretrained.store import faults
    from restore.commands.downloads import checked, known, told

    source = known(name)

    with told():
        found = _here(source)
        if wrong := faults(source, found):
            raise Unavailable(
                f"{'; '.join(wrong)}; restore models remove {name} makes room for a good one"
            )

    put(f"{name}: whole, {found.size:,} bytes; {checked(found)}")


@app.command()
def remove(name: Name, debug: Debug = False) -> None:
    """Remove a checkpoint and its partial downloads from the cache folder."""
    from pretrained import store
    from restore.commands.downloads import known, told

    source = known(name)
    if not source.folder.exists():
        raise NothingToDo(f"{name} is not installed")

    with told():
        put(f"{name}: removed, {store.remove(source) / 1e6:,.0f} MB")


@app.command()
def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            help="A checkpoint file or folder of any layout, or the name of an installed one.",
        ),
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="A .safetensors file; its description is written beside it."
        ),
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Overwrite existing files.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Convert a checkpoint of any layout to .safetensors with a .json description."""
    import pretrained
    from pretrained import layouts
    from restore.commands.downloads import told
    from restore.files import refuse_existing

    if target.suffix != ".safetensors":
        raise BadArgument(f"{target}: its suffix must be .safetensors")

    for each in (target, target.with_suffix(".json")):
        refuse_existing(each, overwrite)

    with told():
        path = pretrained.checkpoint_path(source)
        layouts.convert(
            path, target, overwrite=overwrite, expected=pretrained.expected_config(source)
        )

    put(str(target))


def _here(source: Any) -> Any:
    from pretrained.store import installed

    found = installed(source)
    if found is None:
        raise Unavailable(
            f"{source.name} is not installed, or a file of it is missing or cut short; restore "
            f"models get {source.name} downloads it"
        )

    return found


def _line(row: dict[str, Any]) -> str:
    about = " " if row["exact"] else "~"
    licence = row["licence"].split(" (")[0] + (
        ", research only" if "research only" in row["licence"] else ""
    )
    return (
        f"{row['name']:<24} {row['state']:<10} {about}{row['size_bytes'] / 1e6:>6,.0f} MB  "
        f"{licence:<20}  {row['for']}"
    )
