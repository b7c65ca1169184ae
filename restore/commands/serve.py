"""`restore serve`: the tasks over HTTP, with a page for the browser."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import typer

from restore.commands.downloads import ensure
from restore.commands.options import Common, DebugOption, ModelOption, YesOption, kind_of
from restore.commands.tasks import options_from, read_option, shown_default
from restore.errors import BadArgument, Unavailable
from restore.messages import say
from restore.tasks import TASKS, Task
from restore.tasks.inpaint import AUTO_SCRATCHES
from restore.tasks.option import OptionField, options_of

if TYPE_CHECKING:
    from restore.jobs.output import OutputOptions
    from restore.methods.options import Options
    from restore.serve.fields import Field, Form

# Options of all tasks that a request may give. The others name files, or are for folders, or are
# the server's own.
OFFERED = (
    *("method", "steps", "seed", "samples", "fidelity", "fast", "eta", "sampler", "guidance"),
    *("prompt", "negative_prompt", "start_noise", "parameters", "label"),
    *("format", "quality", "depth", "allow_truncated"),
)

# Options that have a default for the measurements of the command alone.
NEEDED = {"solve": ("operator",)}
# What the command's help says of files of the command, and what a page says instead.
REWORDED = (
    (r", a name from restore methods, or spandrel:FILE", " or one by its name"),
    (r", box:N or file:PATH", " or box:N"),
    (r", to OUT\.kernel\.npy", ""),
    (r", or a measurement of restore degrade \(\.npz\)| or a measurement .*\(\.npz\)", ""),
    (r" Default: that of a \.npz(\.|; else )", " Default: "),
    (r", WebP or clip", " or WebP"),
    (r", PNG or clip", " or PNG"),
    (r"; of a clip, \d+", ""),
    (r"by suffix, or as IN", "as IN"),
    (r"a JPEG IN", "a JPEG"),
    (r"for --clip or a model", "for a model"),
    (r"--start", "the initial picture"),
    (r"\bIN\b", "the picture"),
    (r"\bOUT\b", "the result"),
)

_KINDS = {int: "integer", float: "number", bool: "switch"}


def serve(
    host: Annotated[
        str,
        typer.Option(help="Address to listen on. One that others can reach needs --token."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 7860,
    model: ModelOption = "default",
    yes: YesOption = False,
    device: Annotated[
        str,
        typer.Option(
            help="Device: auto, cpu, cuda, cuda:N or mps; several with commas between, each with "
            "a worker of its own."
        ),
    ] = "auto",
    tile: Annotated[
        int | None,
        typer.Option(
            help="Side of a tile of a large picture, in pixels. Default: what fits in memory."
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            help="Memory to use on the device, such as 4GB. Default: most of what is free."
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="RESTORE_TOKEN",
            metavar="TEXT",
            help="Secret that every request must bring, of at least 16 characters.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Name by which the server may be called besides that of this machine, as behind "
            "a proxy; can be given several times.",
        ),
    ] = None,
    queue: Annotated[
        int, typer.Option(help="Pictures that may wait; more are refused with status 429.")
    ] = 16,
    keep: Annotated[float, typer.Option(help="Seconds for which results are kept.")] = 600.0,
    megabytes: Annotated[
        float, typer.Option(help="Size of the largest request, in millions of bytes.")
    ] = 100.0,
    megapixels: Annotated[
        float, typer.Option(help="Size of the largest picture, in millions of pixels.")
    ] = 40.0,
    seconds: Annotated[
        float, typer.Option(help="Longest time for one picture, in seconds.")
    ] = 3600.0,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    debug: DebugOption = False,
) -> None:
    """Serve a page for the browser and an API over HTTP, on this machine."""
    from restore.serve.settings import Address, Limits

    numbers = {"queue": queue, "keep": keep, "megabytes": megabytes, "megapixels": megapixels}
    for name, number in {**numbers, "seconds": seconds}.items():
        if not 0 < number < math.inf:
            raise BadArgument(f"`{name}`={number:g}: must be above 0, and finite")

    address = Address(host, port, token, tuple(allow_host or ()))
    limits = Limits(
        queue=queue,
        keep=keep,
        bytes=int(megabytes * 1e6),
        pixels=int(megapixels * 1e6),
        seconds=seconds,
    )
    _check_installed()
    ensure(model, yes=yes)
    shared = {"model": model, "tile": tile, "memory": memory}
    _serve(
        address,
        limits,
        [{**shared, "device": one.strip()} for one in device.split(",")],
        open_page=open_page,
        quiet=quiet,
    )


def _check_installed() -> None:
    """Refuse to start without the packages of the extra.

    Raises:
        Unavailable: one is missing.
    """
    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise Unavailable(
            f"restore serve needs the package {error.name}; pip install 'restore-diffusion[web]'"
        ) from None


def _serve(
    address: Any, limits: Any, workers: list[dict[str, Any]], *, open_page: bool, quiet: bool
) -> None:
    """Load the models and answer requests until a signal comes.

    Args:
        address: where to listen, a `restore.serve.settings.Address`.
        limits: a `restore.serve.settings.Limits`.
        workers: arguments of `restore.Restorer` for each device.
        open_page: True to open the page in a browser.
        quiet: True to say nothing.
    """
    from restore.serve.app import make_app
    from restore.serve.engine import Engine
    from restore.serve.listen import bound, listen

    listening = bound(address)
    engines = [Engine(options, limits.seconds) for options in workers]
    try:
        for engine in engines:
            engine.start()
        port = listening.getsockname()[1]

        def started() -> None:
            place = _url(address.host, port)
            if not quiet:
                devices = ", ".join(engine.device for engine in engines)
                say(f"restore: serving {place} on {devices}; Ctrl-C ends")
            if open_page:
                _open(place, address.token)

        listen(make_app(forms(), list(engines), address, limits), listening, limits, started)
    finally:
        listening.close()
        for engine in engines:
            engine.close()


def _open(place: str, token: str | None) -> None:
    """Open the page in a browser; it gets the token behind #, which browsers do not send."""
    import webbrowser
    from urllib.parse import quote

    webbrowser.open(place if token is None else f"{place}#{quote(token, safe='')}")


def _url(host: str, port: int) -> str:
    """Return the address of the page on this machine."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}/"


def forms() -> dict[str, Form]:
    """Return what requests may say, by task, from the records of the command's options.

    Camera raws, which no browser shows, are for the command.
    """
    return {name: _form(task) for name, task in TASKS.items() if not task.takes_raws}


def _form(task: type[Task]) -> Form:
    from restore.serve.fields import Form, Upload

    own = options_of(task)
    files = {name: option for name, option in own.items() if option.option.kind is Path}
    uploads = [_upload(option) for option in files.values()]
    uploads.append(Upload("start", "--start", "Initial picture in the size of the result."))
    shown = [_own_field(option, task) for name, option in own.items() if name not in files]
    hints = get_type_hints(Common, include_extras=True)
    defaults = {field.name: field.default for field in fields(Common)}
    shown += [_common_field(name, hints[name], defaults[name]) for name in OFFERED]

    def build(values: Mapping[str, Any]) -> tuple[Task, Options, OutputOptions, bool]:
        from restore.jobs.output import OutputOptions

        stated = {name: read_option(own[name], values.get(name)) for name in own}
        common = Common(**{name: values[name] for name in OFFERED})
        output = OutputOptions(common.format, common.quality, common.depth)
        return task(**stated), options_from(common), output, common.allow_truncated

    return Form(
        task,
        _in_words(task.about)[0],
        {field.name: field for field in shown},
        {one.name: one for one in uploads},
        build,
    )


def _upload(option: OptionField) -> Any:
    from restore.serve.fields import Upload

    sentence = re.split(r"; or |\. ", option.option.help)[0].removesuffix(".")
    words = (AUTO_SCRATCHES,) if option.name == "mask" else ()
    return Upload(option.name, _flag(option.name), f"{sentence}.", option.option.beside, words)


def _own_field(option: OptionField, task: type[Task]) -> Field:
    from restore.serve.fields import Field

    described = option.option
    kind = "text" if described.parse is not None else _KINDS.get(option.type, "text")
    default = shown_default(option)
    required = default is ... or option.name in NEEDED.get(task.name, ())
    help, implied = _in_words(described.help)
    if described.implied is not None:
        implied = str(described.implied)
    return Field(
        option.name,
        _flag(option.name),
        kind,
        help,
        None if required or default is MISSING else default,
        "" if required else implied,
        tuple(word for word in described.words if not word.startswith("file:")),
        closed=bool(described.words) and described.parse is None,
        required=required,
    )


def _common_field(name: str, hint: Any, default: Any) -> Field:
    from restore.serve.fields import Field

    described = get_args(hint)[1]
    # Typer has the first name of an option that is declared in Annotated as its default
    declared = (described.default, *(described.param_decls or ()))
    texts = [text for text in declared if isinstance(text, str) and text.startswith("--")]
    flag = texts[0].split("/")[0] if texts else _flag(name)
    known = described.autocompletion
    words = tuple(known()) if callable(known) else ()
    kind = _KINDS.get(kind_of(hint), "text")
    help, implied = _in_words(described.help)
    return Field(name, flag, kind, help, default, implied, words, closed=bool(words), own=False)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _in_words(help: str) -> tuple[str, str]:
    """Return the command's help without what a request cannot say, and the default in words."""
    for pattern, text in REWORDED:
        help = re.sub(pattern, text, help)
    said, _, implied = help.partition(" Default: ")
    return said, implied.removesuffix(".")
