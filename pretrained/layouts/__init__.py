"""Third-party checkpoints, converted to the names of `restore.backbone`.

The layout of a state dict is recognised by its tensor names. The architecture follows from names
and shapes and is compared with what is expected. `docs/layouts.md` lists the layouts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pretrained.disk import digest_of
from pretrained.errors import CheckpointError
from pretrained.layouts import classifier
from pretrained.layouts.adm import Adm
from pretrained.layouts.ddpm import Ddpm
from pretrained.layouts.diffusers import UNet2D
from pretrained.layouts.edm import Edm
from pretrained.layouts.edm_ddpmpp import DdpmPlusPlus
from pretrained.layouts.files import Source, diffusers_config, opened, write_pair
from pretrained.layouts.layout import Layout, Renamed
from pretrained.layouts.settled import contradictions, settled
from pretrained.layouts.sr3 import Sr3

__all__ = ["CheckpointError", "convert", "read"]

LAYOUTS: tuple[type[Layout], ...] = (Adm, Ddpm, UNet2D, Sr3, DdpmPlusPlus, Edm)

# Tensor names that only the project's lean layout has.
OWN = {"stem.weight", "time_embed.0.weight"}


def read(
    path: Path, *, expected: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a checkpoint of any known layout.

    Args:
        path: A .safetensors file, a pickle of ``torch.save`` (.pt, .pth, .ckpt, .bin), or a
            diffusers folder.
        expected: Parts of the description that are known beforehand. They are compared with what
            the file shows, and used for what it does not show. Without it, a .json or .toml file of
            the same name beside the weights may say the same.

    Returns:
        The description, as `pretrained.description.ModelConfig.from_dict` takes it or, of a
        classifier, `pretrained.classifier_description.ClassifierConfig.from_dict`, and the tensors
        under the names of `restore.backbone`.

    Raises:
        CheckpointError: No such file, a damaged one, one that holds code (which is never run), an
            unknown layout, tensors that are missing, unexpected or of the wrong shape, or another
            network than the expected one.
    """
    source = opened(Path(path))
    hints = dict(source.description or {} if expected is None else expected)
    try:
        if _described(source):
            return _own(source, hints)
        if classifier.recognises(source.state.keys()):
            return classifier.settled(source.state, hints), source.state
        renamed = Renamed(_layout(source))
        config = settled(renamed.layout, renamed.inferred, hints)
        renamed.check(config["backbone"])
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None

    return config, renamed.state


def convert(
    source: Path,
    target: Path,
    *,
    overwrite: bool = False,
    expected: Mapping[str, Any] | None = None,
) -> None:
    """Convert a checkpoint of any known layout to the project's own format.

    Args:
        source: See `read`.
        target: The .safetensors file to write; its description is written beside it as .json.
        overwrite: Replace files that exist.
        expected: See `read`.

    Raises:
        CheckpointError: As `read`, or a target that exists, cannot be written or has another
            suffix.
    """
    target = Path(target)
    if target.suffix != ".safetensors":
        raise CheckpointError(f"{target}: the result is a .safetensors file; give it that ending")

    config, state = read(source, expected=expected)
    write_pair(target, state, config, overwrite)


def _layout(source: Source) -> Layout:
    names = source.state.keys()
    if UNet2D.recognises(names):
        return UNet2D(source.state, *diffusers_config(source.path))
    if names >= OWN:
        beside = source.path.with_suffix(".json").name
        raise CheckpointError(
            f"weights of our own, whose description {beside} is missing or not complete"
        )

    for kind in LAYOUTS:
        if kind.recognises(names):
            return kind(source.state)

    shown = ", ".join(sorted(names)[:3])
    raise CheckpointError(
        f"of no known layout ({', '.join(kind.name for kind in LAYOUTS)} or our own); its tensors "
        f"are {shown} …"
    )


def _described(source: Source) -> bool:
    """Whether a checkpoint is in the project's own format, with a complete description."""
    backbone = (source.description or {}).get("backbone")
    written = {"layout", "channels", "channel_multipliers", "blocks", "qkv_order", "norm"}
    return (
        source.path.suffix == ".safetensors"
        and isinstance(backbone, Mapping)
        and written <= backbone.keys()
    )


def _own(source: Source, hints: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    description = dict(source.description or {})
    written = description.pop("sha256", None)
    if written is not None and written != digest_of(source.path):
        raise CheckpointError("damaged: its SHA-256 is not the one in its description")
    if different := contradictions(description, {k: v for k, v in hints.items() if k != "sha256"}):
        raise CheckpointError(f"not the network that was expected: {'; '.join(different)}")

    return description, source.state
