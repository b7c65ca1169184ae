"""Recipes as TOML: reading, what is filled in, and writing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pretrained.tables import BadTable, parse_toml, read_text
from restore.errors import BadArgument, FileAccess
from restore.training.classifier_recipe import MODEL as CLASSIFIER_MODEL
from restore.training.recipe import Recipe, default_model
from restore.training.sections import section_of

# Folder of the recipes that have a paper's name.
PAPERS = Path(__file__).with_name("papers")

# Backbone of a predictor that a recipe describes by ``[model.predictor]`` alone.
PREDICTOR_BACKBONE: Mapping[str, Any] = {
    "layout": "lean",
    "condition_channels": 3,
    "condition_map": True,
    "noise_map": True,
    "noisy_input": False,
    "times": 2,
    "channels": 48,
    "channel_multipliers": (1, 2, 3),
    "blocks": 1,
    "middle_attention": False,
    "norm": "rms",
    "norm_eps": 1e-6,
    "patch": 2,
}


def papers() -> list[str]:
    """Return the names of the recipes that come with the package, each of a paper."""
    return sorted(path.stem for path in PAPERS.glob("*.toml"))


def read_recipe(path: Path) -> Recipe:
    """Read a TOML file, or a recipe of `papers` by its name where there is no such file.

    A [model] takes from the default model what it leaves out, except [model.schedule], which is
    taken whole, and [model.predictor], without which there is none.

    Raises:
        FileAccess: There is no such file.
        BadArgument: It is not TOML, or has an unknown key or an impossible value, which is named.
    """
    if str(path) in papers() and not path.exists():
        path = PAPERS / f"{path}.toml"
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise FileAccess(
            f"{path}: no such recipe; by name there are {', '.join(papers())}"
        ) from None
    except OSError as error:
        raise FileAccess(f"{path}: cannot be read: {error.strerror or error}") from None
    except BadTable as error:
        raise BadArgument(f"{path}: {error}") from None
    return parse_recipe(text, str(path))


def parse_recipe(text: str, source: str = "recipe") -> Recipe:
    """Parse a recipe from TOML text; errors as for `read_recipe`, which name ``source``."""
    try:
        table = parse_toml(text)
    except BadTable as error:
        raise BadArgument(f"{source}: {error}") from None

    if isinstance(table.get("classifier"), dict):
        _fill_classifier(table)
    if isinstance(table.get("model"), dict):
        table["model"] = _filled_model(table["model"])
        _fill_what_follows(table)
    return section_of(Recipe, table, "", source)


def write_recipe(recipe: Recipe) -> str:
    """Return the TOML text that `parse_recipe` reads as the same recipe."""
    return "\n".join(_toml_lines(asdict(recipe), ())).lstrip("\n") + "\n"


def _filled_model(table: dict[str, Any]) -> dict[str, Any]:
    default = asdict(default_model())
    shipped = default.pop("predictor", None) or {}
    if "predictor" not in table:  # a text cannot say that there is none
        default["condition_picture"] = "degraded"

    own = table.get("backbone")
    unconditional = isinstance(own, dict) and own.get("condition_channels") == 0
    parameterization = table.get("parameterization", default["parameterization"])
    # the default model's own, which suit only models of its kind
    bridge = table.get("bridge") is not None
    if unconditional or bridge or parameterization != "v":
        default["condition_skip"] = False
    if unconditional or bridge or parameterization == "epsilon":
        default["one_step"] = "noise"
    if bridge:
        default["condition_required"] = True
    if unconditional:
        default["backbone"]["condition_map"] = False

    filled = {**default, **table}
    if isinstance(own, dict):
        filled["backbone"] = {**default["backbone"], **own}

    filled["backbone"] = {k: v for k, v in filled["backbone"].items() if v is not None}
    if isinstance(table.get("predictor"), dict):
        filled["predictor"] = _filled_predictor(table["predictor"], shipped)

    return {k: v for k, v in filled.items() if v is not None}


def _fill_classifier(table: dict[str, Any]) -> None:
    """Fill the model of a recipe for a classifier with `classifier_recipe.MODEL`."""
    own = table.get("model", {})
    if not isinstance(own, dict):
        return

    backbone = own.get("backbone", {})
    filled = {"parameterization": "epsilon", "time": "step", **CLASSIFIER_MODEL, **own}
    if isinstance(backbone, dict):
        filled["backbone"] = {**CLASSIFIER_MODEL["backbone"], **backbone}
    table["model"] = filled


def _fill_what_follows(table: dict[str, Any]) -> None:
    """Fill in, beside a model, the settings of which its description leaves one value."""
    model = table["model"]
    backbone = model.get("backbone")
    without_zeros = model.get("one_step") != "zeros"
    bridge = model.get("bridge") is not None
    unconditional = isinstance(backbone, dict) and not backbone.get("condition_channels")

    for section, key, former, value, follows in (
        ("objective", "noiseless_fraction", "noiseless_share", 0.0, without_zeros),
        ("data", "unconditional_fraction", "share_unconditional", 0.0, bridge),
        ("data", "unconditional_fraction", "share_unconditional", 1.0, unconditional),
    ):
        own = table.setdefault(section, {})
        if follows and isinstance(own, dict) and former not in own:
            own.setdefault(key, value)


def _filled_predictor(table: dict[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    """Fill a predictor's table with the default model's, or with `PREDICTOR_BACKBONE`."""
    own = table.get("backbone", {})
    if not isinstance(own, dict):
        return table
    backbone = {**(default.get("backbone") or PREDICTOR_BACKBONE), **own}
    return {**default, **table, "backbone": {k: v for k, v in backbone.items() if v is not None}}


def _toml_lines(table: Mapping[str, Any], at: tuple[str, ...]) -> Iterator[str]:
    """Yield the lines of a table: its own keys, then the tables in it, without None."""
    inner = {k: v for k, v in table.items() if isinstance(v, Mapping)}
    own = [
        f"{_toml_key(k)} = {_toml(v)}" for k, v in table.items() if v is not None and k not in inner
    ]
    if at and (own or not inner):
        yield from ("", f"[{'.'.join(map(_toml_key, at))}]")

    yield from own

    for key, value in inner.items():
        yield from _toml_lines(value, (*at, key))


def _toml_key(key: str) -> str:
    return (
        key
        if key.replace("_", "").replace("-", "").isalnum() and key.isascii()
        else json.dumps(key)
    )


def _toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml_key(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)

    return repr(value)
