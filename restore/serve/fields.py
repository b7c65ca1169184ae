"""Options as a page or a program fills them in, read from JSON.

`restore.commands.serve` makes them from the records that the command has its options from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from restore.errors import BadArgument
from restore.jobs.output import OutputOptions
from restore.methods.options import Options
from restore.tasks import Task

# JSON types by the kind of a field, for documents of JSON Schema.
_SCHEMA: dict[str, Any] = {
    "number": {"type": "number"},
    "integer": {"type": "integer"},
    "switch": {"type": "boolean"},
    "text": {"anyOf": [{"type": "string"}, {"type": "number"}]},
}


@dataclass(frozen=True)
class Field:
    """One option.

    Attributes:
        name: name of the parameter.
        flag: the option of the command.
        kind: ``number``, ``integer``, ``switch`` or ``text``.
        help: one sentence.
        default: value if it is left out; None if that depends on the rest.
        implied: what is done without it, in words; empty if nothing is, or the default says it.
        words: values to choose from, or examples.
        closed: True if there are no other values than the words.
        required: True if it has no default.
        own: True if it belongs to the task, False if all tasks have it.
    """

    name: str
    flag: str
    kind: str
    help: str
    default: Any = None
    implied: str = ""
    words: tuple[str, ...] = ()
    closed: bool = False
    required: bool = False
    own: bool = True

    def read(self, value: Any) -> Any:
        """Return a value of JSON in the type of the option; None is the default.

        Raises:
            BadArgument: a value of another type.
        """
        if value is None:
            return self.default
        if self.kind == "switch" and isinstance(value, bool):
            return value
        if isinstance(value, bool):
            raise self._refusal(value)
        if self.kind == "text" and isinstance(value, str | int | float):
            return str(value)
        if self.kind == "integer" and isinstance(value, int):
            return value
        if self.kind == "number" and isinstance(value, int | float) and _is_finite(value):
            return float(value)

        raise self._refusal(value)

    def _refusal(self, value: Any) -> BadArgument:
        return BadArgument(f"`{self.name}`={_brief(value)}: must be a {_KINDS[self.kind]}")

    @property
    def described(self) -> dict[str, Any]:
        """What `GET /api/tasks` says about it."""
        return {
            "name": self.name,
            "flag": self.flag,
            "type": self.kind,
            "help": self.help,
            "default": self.default,
            "implied": self.implied,
            "words": list(self.words),
            "closed": self.closed,
            "required": self.required,
            "own": self.own,
        }

    @property
    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        default = {} if self.default is None else {"default": self.default}
        words = {"enum" if self.closed else "examples": list(self.words)} if self.words else {}
        implied = f" Default: {self.implied}." if self.implied else ""
        return {**_SCHEMA[self.kind], "description": self.help + implied, **default, **words}


_KINDS = {
    "number": "finite number",
    "integer": "whole number",
    "switch": "switch, true or false",
    "text": "text",
}


@dataclass(frozen=True)
class Upload:
    """A picture that goes with the one to restore.

    Attributes:
        name: name of the part in a request, such as ``mask``.
        flag: the option of the command.
        help: one sentence.
        required: True if there is no restoration without it.
        words: texts that an option of the same name may have instead.
    """

    name: str
    flag: str
    help: str
    required: bool = False
    words: tuple[str, ...] = ()

    def read(self, value: Any) -> str | None:
        """Return the text that stands for the file; None if the file is to come.

        Raises:
            BadArgument: another text.
        """
        if value is None or value in self.words:
            return value
        known = f", or {' or '.join(self.words)}" if self.words else ""
        raise BadArgument(f"`{self.name}`={_brief(value)}: send it as a file{known}")


@dataclass(frozen=True)
class Form:
    """Everything that a request for a task may say.

    Attributes:
        task: the task.
        about: one sentence.
        fields: its options, those of its own first.
        uploads: pictures beside the one to restore.
        build: makes task and options of values by name; files are still missing.
    """

    task: type[Task]
    about: str
    fields: Mapping[str, Field]
    uploads: Mapping[str, Upload]
    build: Callable[[Mapping[str, Any]], tuple[Task, Options, OutputOptions, bool]]

    def read(self, text: str) -> tuple[Task, Options, OutputOptions, bool]:
        """Read options from an object of JSON.

        Returns:
            The task without its companion, options of the restoration and of the output, and True
            to complete a picture whose file ends too early.

        Raises:
            BadArgument: no object of JSON, an unknown or missing option, or an invalid value.
        """
        given = _object(text)
        for name in given:
            if name not in self.fields and name not in self.uploads:
                raise BadArgument(
                    f"options: {_brief(name)} is no option of {self.task.name}; there are "
                    f"{', '.join(self.fields)}"
                )

        for name, field in self.fields.items():
            if field.required and given.get(name) is None:
                raise BadArgument(f"`{name}` is missing: {field.help}")

        readers: dict[str, Field | Upload] = {**self.fields, **self.uploads}
        return self.build({name: reader.read(given.get(name)) for name, reader in readers.items()})

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of its options."""
        fields = {name: field.schema for name, field in self.fields.items()}
        words = {name: {"enum": list(one.words)} for name, one in self.uploads.items() if one.words}
        return {
            "type": "object",
            "properties": fields | words,
            "required": [name for name, field in self.fields.items() if field.required],
            "additionalProperties": False,
        }

    @property
    def described(self) -> dict[str, Any]:
        """What `GET /api/tasks` says about the task."""
        return {
            "name": self.task.name,
            "title": self.task.title,
            "about": self.about,
            "options": [field.described for field in self.fields.values()],
            "uploads": [vars(upload) for upload in self.uploads.values()],
        }


def _object(text: str) -> dict[str, Any]:
    """Read an object of JSON; empty text is an empty one.

    Raises:
        BadArgument: it is none, or has a name twice.
    """

    def paired(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise BadArgument("options: a name is there twice")
        return found

    try:
        found = json.loads(text or "{}", object_pairs_hook=paired)
    except (ValueError, RecursionError) as error:
        if isinstance(error, BadArgument):
            raise
        raise BadArgument(
            'options: must be an object of JSON, such as {"scale": 2}; this is not JSON'
        ) from None
    if not isinstance(found, dict):
        raise BadArgument('options: must be an object of JSON, such as {"scale": 2}')

    return found


def _is_finite(value: float) -> bool:
    """Return True for a number that a float can hold."""
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number
        return False


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
