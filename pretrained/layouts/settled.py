"""A complete description of a third-party network from everything that is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from pretrained.description import BackboneConfig, ModelConfig
from pretrained.errors import CheckpointError
from pretrained.layouts.layout import Layout


def _defaults(config: type[BackboneConfig] | type[ModelConfig]) -> dict[str, Any]:
    """Default of every field that has one, as JSON holds it."""
    return {
        field.name: _plain(field.default)
        for field in fields(config)
        if field.default is not MISSING
    }


def _plain(value: Any) -> Any:
    """The value with lists in place of tuples, as JSON holds it."""
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


# Every key of a description, in the order in which it is written, with its default.
BACKBONE = _defaults(BackboneConfig)
MODEL = {"backbone": BACKBONE, "schedule": {}, **_defaults(ModelConfig)}

# The keys that are tables.
NESTED = ("backbone", "schedule")


def settled(
    layout: Layout, inferred: Mapping[str, Any], hints: Mapping[str, Any]
) -> dict[str, Any]:
    """Complete the description of a network.

    Args:
        layout: Layout of the checkpoint.
        inferred: What the shapes show of the backbone, see `unet.inferred_backbone`.
        hints: Parts of the description that the catalogue or the user gives.

    Returns:
        Every field of `pretrained.description.ModelConfig`, as JSON holds it.

    Raises:
        CheckpointError: A hint is unknown, is missing, or contradicts what the checkpoint shows.
    """
    hints = _with_heads(checked(hints))
    fixed = _with_heads(layout.fixed())
    if inferred["condition_channels"] not in ((0, 3) if layout.conditional else (0,)):
        channels = "3, or 6 with a condition" if layout.conditional else "3"
        raise CheckpointError(
            f"its network sees {3 + inferred['condition_channels']} channels; known are {channels}"
        )

    if wanted := layout.undetermined(inferred, hints):
        raise CheckpointError(
            f"a network of the layout {layout.name}, whose weights do not show everything; say it "
            f"in a .toml or .json file of the same name beside it: {wanted}"
        )

    known = _joined(fixed, {"backbone": dict(inferred)})
    if different := contradictions({"backbone": inferred}, fixed) + contradictions(known, hints):
        raise CheckpointError(f"not the network that was expected: {'; '.join(different)}")

    config = MODEL

    for layer in (_with_heads(layout.defaults(inferred)), hints, known):
        config = _joined(config, layer)

    if not inferred["condition_channels"]:
        config = _joined(config, {"condition_required": False, "scale": None})

    return config


def checked(hints: Mapping[str, Any]) -> dict[str, Any]:
    """Check the keys and types of hints, and drop their digest.

    Raises:
        CheckpointError: A hint is no key of a description, or of the wrong type.
    """
    hints = {name: value for name, value in hints.items() if name != "sha256"}
    if flat := [name for name in NESTED if not isinstance(hints.get(name, {}), Mapping)]:
        raise CheckpointError(f"its description's {' and '.join(flat)} must be a table")
    if "schedule" in hints and "name" not in hints["schedule"]:
        raise CheckpointError(
            'its description\'s schedule has no name, as in schedule = { name = "linear" }'
        )

    unknown = [name for name in hints if name not in MODEL]
    unknown += [f"backbone.{name}" for name in hints.get("backbone", {}) if name not in BACKBONE]
    if unknown:
        raise CheckpointError(
            f"its description has unknown keys: {', '.join(unknown)}; there are {', '.join(MODEL)}"
        )

    plain = {name: value for name, value in hints.items() if name not in NESTED}

    for table, defaults in ((plain, MODEL), (hints.get("backbone", {}), BACKBONE)):
        for name, value in table.items():
            if not _fits(value, defaults[name]):
                raise CheckpointError(
                    f"its description says {name} = {value!r}, where {defaults[name]!r} is usual"
                )

    return hints


def _fits(value: Any, default: Any) -> bool:
    """Whether a value has the type of a default; for None, whether it is an int or None."""
    if default is None:
        return value is None or (isinstance(value, int) and not isinstance(value, bool))
    if isinstance(default, list):
        return isinstance(value, list | tuple) and all(
            isinstance(part, int | float) for part in value
        )
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)

    return type(value) is type(default)


def contradictions(known: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Differences between descriptions, such as ``["backbone.blocks: 2, expected 1"]``."""
    found = []
    for name, value in expected.items():
        if name in NESTED:
            inner = contradictions(known.get(name, {}), value)
            found += [f"{name}.{difference}" for difference in inner]
        elif name in known and _plain(known[name]) != _plain(value):
            found.append(f"{name}: {_plain(known[name])}, expected {_plain(value)}")

    return found


def _joined(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two descriptions and their tables; ``above`` wins."""
    nested = {name: {**below.get(name, {}), **above[name]} for name in NESTED if name in above}
    return {**below, **above, **nested}


def _with_heads(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Complete ``heads`` and ``head_channels`` where a layer gives one of them."""
    backbone = dict(layer.get("backbone", {}))
    if "heads" in backbone or "head_channels" in backbone:
        each = backbone.get("head_channels")
        backbone |= {"head_channels": each, "heads": 1 if each else backbone.get("heads", 1)}
    return {**layer, "backbone": backbone}
