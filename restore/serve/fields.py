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
        words: values to choose from, or examples.
        required: True if it has no default.
        own: True if it belongs to the task, False if all tasks have it.
    """

    name: str
    flag: str
    kind: str
    help: str
    default: Any = None
    words: tuple[str, ...] = ()
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
        if self.kind == "number" and isinstance(value, int | float) and math.isfinite(value):
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
            "words": list(self.words),
            "required": self.required,
            "own": self.own,
        }

    @property
    def schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        default = {} if self.default is None else {"default": self.default}
        examples = {"examples": list(self.words)} if self.words else {}
        return {**_SCHEMA[self.kind], "description": self.help, **default, **examples}


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
    """

    name: str
    flag: str
    help: str
    required: bool = False


@dataclass(frozen=True)
class Form:
    """Everything that a request for a task may say.

    Attributes:
        task: the task.
        fields: its options, those of its own first.
        uploads: pictures beside the one to restore.
        build: makes task and options of values by name; the companion is still missing.
    """

    task: type[Task]
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
            if name not in self.fields:
                raise BadArgument(
                    f"options: {_brief(name)} is no option of {self.task.name}; there are "
                    f"{', '.join(self.fields)}"
                )

        for name, field in self.fields.items():
            if field.required and given.get(name) is None:
                raise BadArgument(f"`{name}` is missing: {field.help}")

        return self.build(
            {name: field.read(given.get(name)) for name, field in self.fields.items()}
        )

    @property
    def described(self) -> dict[str, Any]:
        """What `GET /api/tasks` says about the task."""
        return {
            "name": self.task.name,
            "title": self.task.title,
            "about": self.task.about,
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


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
