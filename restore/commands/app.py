"""The `restore` command: its sub-commands and its exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Annotated, Any

import typer

from restore.commands import models
from restore.commands.degrade import degrade
from restore.commands.ends import CLOSED_PIPE, INTERRUPTED, Signals, is_closed_pipe, is_stuck
from restore.commands.evaluate import evaluate
from restore.commands.export import export
from restore.commands.info import info
from restore.commands.invert import invert
from restore.commands.likelihood import likelihood
from restore.commands.methods import list_methods
from restore.commands.operators import list_operators
from restore.commands.sample import sample
from restore.commands.score_norms import score_norms
from restore.commands.serve import serve
from restore.commands.tasks import command_of
from restore.commands.train import train
from restore.commands.tune import tune
from restore.commands.wording import in_options, show_messages, use_flags
from restore.errors import BadArgument, FileAccess, NothingToDo, RestoreError
from restore.messages import STDOUT, complain, say
from restore.tasks import TASKS
from restore.text import visible

EPILOG = (
    "Exit codes: 0 done; 1 bad arguments; 2 unreadable input; 3 missing device or model; 5 a file "
    "or folder cannot be read or written; 6 nothing to do; 10 some pictures of a folder failed; 15 "
    "anything else; 130 interrupted, 143 by SIGTERM, 129 by SIGHUP; 141 stdout was closed."
)

app = typer.Typer(
    name="restore",
    help=("Restore photographs: super-resolution, inpainting, deblurring, denoising, colourising."),
    epilog=EPILOG,
    pretty_exceptions_enable=False,
)
app.add_typer(models.app, name="models")
for _task in TASKS.values():
    app.command(name=_task.name, help=_task.about, epilog=EPILOG)(command_of(_task))

_COMMANDS: dict[str, Callable[..., None]] = {
    "degrade": degrade,
    "train": train,
    "evaluate": evaluate,
    "tune": tune,
    "info": info,
    "sample": sample,
    "invert": invert,
    "score-norms": score_norms,
    "likelihood": likelihood,
    "export": export,
    "serve": serve,
}
for _name, _function in _COMMANDS.items():
    app.command(name=_name, epilog=EPILOG)(_function)
app.command(name="operators")(list_operators)
app.command(name="methods")(list_methods)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[
        bool, typer.Option("--version", help="Show version, model and commit, and exit.")
    ] = False,
) -> None:
    if version:
        from restore.commands.version import lines

        for line in lines():
            typer.echo(line)
        raise typer.Exit


def exit_code(arguments: list[str]) -> int:
    """Run the command, report errors on stderr, and return the exit code."""
    with Signals() as signals:
        try:
            code = _exit_code(arguments)
        except KeyboardInterrupt:
            code = INTERRUPTED
        except BaseException as error:
            if not is_closed_pipe(error):
                raise
            return CLOSED_PIPE

    # a signal can also surface as an error of what it interrupted
    if signals.number is None and code != INTERRUPTED:
        return code
    complain(str(signals))
    return signals.exit_code


def _exit_code(arguments: list[str]) -> int:
    usage_error: Any = typer.BadParameter.__mro__[1]
    failed = partial(_failed, debug="--debug" in arguments)
    try:
        show_messages()
        command = _command()
        use_flags(_flags(command, arguments))
        words = arguments or ["--help"]
        return command.main(words, prog_name="restore", standalone_mode=False) or 0
    except typer.Abort:
        return INTERRUPTED
    except NothingToDo as error:
        say(f"restore: {in_options(str(error))}")
        return error.exit_code
    except RestoreError as error:
        return failed(error, in_options(str(error)), error.exit_code)
    except usage_error as error:
        text = f"{error.format_message()} (restore --help shows the options)"
        return failed(error, text, BadArgument.exit_code)
    except MemoryError as error:
        return failed(error, "not enough memory for a picture of this size", RestoreError.exit_code)
    except Exception as error:
        return failed(error, *_foreign(error))


def _foreign(error: Exception) -> tuple[str, int]:
    """Return the text and the exit code of an error that is not raised on purpose."""
    if isinstance(error, OSError) and error.filename not in (None, STDOUT):
        return (
            f"{error.filename}: {error.strerror or error} (--debug shows where)",
            FileAccess.exit_code,
        )

    if isinstance(error, OSError) and (error.filename == STDOUT or is_stuck(sys.stdout)):
        return f"stdout: cannot be written: {error.strerror or error}", FileAccess.exit_code

    reason = " ".join(str(error).splitlines())  # PyTorch explains in several lines
    return f"{type(error).__name__}: {reason} (--debug shows where)", RestoreError.exit_code


@cache
def _command() -> Any:
    """Build the command from its functions, once in a process."""
    return typer.main.get_command(app)


def _flags(command: Any, arguments: list[str]) -> dict[str, str]:
    """Return the options of the command in use, keyed by the names of their parameters."""
    for word in arguments:
        command = getattr(command, "commands", {}).get(word, command)

    return {
        parameter.name: next(text for text in parameter.opts if text.startswith("--"))
        for parameter in command.params
        if parameter.param_type_name == "option"
    }


def _failed(error: Exception, text: str, code: int, debug: bool) -> int:
    if debug:
        import traceback

        for line in "".join(traceback.format_exception(error)).split("\n"):
            print(visible(line), file=sys.stderr)

    complain(text)
    return code
