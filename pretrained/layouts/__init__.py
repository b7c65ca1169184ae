"""Weights that others trained, under the names of our network.

A layout is recognised from the names in a state dict; the architecture is read off names and shapes
and compared with what is expected. `docs/layouts.md` says which layouts there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pretrained.disk import digest_of
from pretrained.errors import CheckpointError
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
OWN = {"stem.weight", "time_embed.0.weight"}
"""Names in a state dict of the lean layout, which nobody else has."""


def read(
    path: Path, *, expected: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Weights of any known layout.

    Args:
        path: a .safetensors file, a pickle of ``torch.save`` (.pt, .pth, .ckpt, .bin), or a
            diffusers folder.
        expected: what is known of the network, as parts of a description; compared with what the
            file tells, and taken for what it does not tell. Without it, a .json or .toml file of
            the same name beside the weights may say it.

    Returns:
        The description, as `restore.diffusion.denoiser.ModelConfig.from_dict` takes it, and the
        tensors by our backbone's names.

    Raises:
        CheckpointError: no such file, a damaged one, one that holds code (nothing of it is run), an
            unknown layout, tensors that are missing, left over or of the wrong shape, or not the
            expected network.
    """
    source = opened(Path(path))
    hints = dict(source.description or {} if expected is None else expected)
    try:
        if _described(source):
            return _own(source, hints)
        renamed = Renamed(_layout(source))
        config = settled(renamed.layout, renamed.told, hints)
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
    """Write weights of any known layout as our own: ``target``, a .safetensors file, and its
    description beside it.

    Raises:
        CheckpointError: as `read`, or a target that is there already, cannot be written or has
            another ending.
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
    """Whether the weights are ours: the description is one that we wrote, which says everything."""
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
