"""The methods of `Restorer` and the functions of `restore` that are named after tasks."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from restore.methods.report import Result, Samples
from restore.tasks import Task
from restore.tasks.option import options_of

if TYPE_CHECKING:
    from restore.photo.pictures import Picture


def method_of(task: type[Task]) -> Callable[..., Any]:
    """Return the method of `Restorer` for a task, documented by its options."""
    names = {field.name for field in fields(task)}

    def method(self: Any, image: Picture, *values: Any, **options: Any) -> Any:
        own = {name: options.pop(name) for name in tuple(options) if name in names}
        return _short(self.run(task(*values, **own), image, **options))

    return _documented(method, task, ["self"])


def function_of(task: type[Task], restorer: Callable[[str, str], Any]) -> Callable[..., Any]:
    """Return the function for a task; ``restorer`` loads its model once."""

    def function(
        image: Picture, *values: Any, model: str = "default", device: str = "auto", **options: Any
    ) -> Any:
        return getattr(restorer(model, device), task.name)(image, *values, **options)

    return _documented(function, task, [], model="default", device="auto")


def _documented(
    function: Callable[..., Any], task: type[Task], first: list[str], **more: str
) -> Callable[..., Any]:
    """Give a function the name, signature and documentation of a task."""
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    keyword = inspect.Parameter.KEYWORD_ONLY
    options = options_of(task)
    own = [
        parameter.replace(annotation=options[name].type)
        for name, parameter in inspect.signature(task).parameters.items()
        if name in options
    ]
    parameters = [
        *(inspect.Parameter(name, positional) for name in (*first, "image")),
        *own,
        *(inspect.Parameter(name, keyword, default=value) for name, value in more.items()),
        inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD),
    ]
    lines = [
        task.about,
        "",
        "Args:",
        "    image: a picture, see `Restorer`.",
        *(f"    {name}: {_in_python(option.option.help)}" for name, option in options.items()),
        "    options: fields of `restore.methods.options.Options`, and ``callback``.",
    ]
    function.__name__ = task.name
    function.__qualname__ = f"Restorer.{task.name}" if first else task.name
    function.__doc__ = "\n".join(lines)
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]

    return function


def _in_python(text: str) -> str:
    """Replace the name of the input in the command by that of the parameter."""
    return re.sub(r"\bIN\b", "image", text)


def _short(result: Result) -> Any:
    return result.mean if result.std is None else Samples(result.mean, result.std, result.samples)
