"""Repositories of the Hugging Face hub, by its plain HTTP addresses.

The answers are those that the hub documents for its API (https://huggingface.co/docs/hub/api) and
`huggingface_hub` reads; ``HF_ENDPOINT`` names another server with the same addresses.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import quote

from pretrained.catalogue import RemoteFile
from pretrained.download import get_json
from pretrained.errors import CheckpointError

PREFIX = "hf:"
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_NAME = r"[A-Za-z0-9][\w.-]*"
_ADDRESS = re.compile(rf"{PREFIX}({_NAME}/{_NAME})(?:@({_NAME}(?:/{_NAME})*))?")


class Listing(NamedTuple):
    """What of a repository makes a model."""

    commit: str
    files: list[RemoteFile]
    """The weights first."""


def parse(text: str) -> tuple[str, str]:
    """``OWNER/REPO`` and revision of ``hf:OWNER/REPO[@REVISION]``.

    Raises:
        CheckpointError: something else.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise CheckpointError(
            f"{text!r} is no repository; write hf:OWNER/REPO or hf:OWNER/REPO@REVISION"
        )
    return match[1], match[2] or "main"


def listing(repository: str, revision: str) -> Listing:
    """Which files of a repository are to be fetched, with their sizes and, for large ones, their
    SHA-256.

    Raises:
        CheckpointError: no such repository or revision, or no weights in it that can be chosen.
    """
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    answer = get_json(
        f"{endpoint}/api/models/{repository}/revision/{quote(revision, safe='')}?blobs=true"
    )
    try:
        commit = str(answer["sha"])  # type: ignore[index]
        found = {str(each["rfilename"]): each for each in answer["siblings"]}  # type: ignore[index]
    except (KeyError, TypeError):
        raise CheckpointError(f"{endpoint} does not answer as a hub about {repository}") from None

    base = f"{endpoint}/{repository}/resolve/{commit}"

    return Listing(commit, [_file(base, found[name]) for name in _chosen(repository, list(found))])


def _chosen(repository: str, names: list[str]) -> list[str]:
    """The weights of diffusers with network and schedule; else the only weights, with their
    description if ours.
    """
    schedule = [
        name
        for name in ("scheduler_config.json", "scheduler/scheduler_config.json")
        if name in names
    ][:1]
    for folder in ("", "unet/"):
        for suffix in (".safetensors", ".bin"):
            weights = f"{folder}diffusion_pytorch_model{suffix}"
            config = f"{folder}config.json"
            if weights in names and config in names:
                return [weights, config, *schedule]

    weights = [name for name in names if name.endswith(WEIGHT_SUFFIXES)]
    if len(weights) != 1:
        found = ", ".join(weights[:6]) + (" …" if len(weights) > 6 else "") if weights else "none"
        raise CheckpointError(
            f"{repository} has not one file of weights, but {len(weights)} ({found}); fetch the "
            "right one and give it as --model FILE"
        )

    description = str(PurePosixPath(weights[0]).with_suffix(".json"))

    return [weights[0], *([description] if description in names else [])]


def _file(base: str, facts: Mapping[str, Any]) -> RemoteFile:
    path = facts["rfilename"]
    large = facts.get("lfs") or {}
    return RemoteFile(
        PurePosixPath(path).name, (f"{base}/{quote(path)}",), facts.get("size"), large.get("sha256")
    )
