"""Repositories of the Hugging Face hub, by its HTTP API (https://huggingface.co/docs/hub/api).

The environment variable ``HF_ENDPOINT`` names another server with the same API, as for
`huggingface_hub`.
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
from pretrained.pipelines import INDEX, files_needed, is_latent

PREFIX = "hf:"
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")

# Weights and description of transformers' CLIPModel, and what its tokenizer and pixels need.
_CLIP = ("model.safetensors", "config.json", "vocab.json", "merges.txt")
_BESIDE_CLIP = ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json")

_NAME = r"[A-Za-z0-9][\w.-]*"
_ADDRESS = re.compile(rf"{PREFIX}({_NAME}/{_NAME})(?:@({_NAME}(?:/{_NAME})*))?")


class Listing(NamedTuple):
    """Files of a repository that make up a model.

    Attributes:
        commit: Commit of the repository.
        files: The files, the weights first.
    """

    commit: str
    files: list[RemoteFile]


def parse(text: str) -> tuple[str, str]:
    """Split ``hf:OWNER/REPO[@REVISION]`` into ``OWNER/REPO`` and the revision.

    Raises:
        CheckpointError: The text has another form.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise CheckpointError(
            f"{text!r} is no repository; write hf:OWNER/REPO or hf:OWNER/REPO@REVISION"
        )
    return match[1], match[2] or "main"


def listing(repository: str, revision: str) -> Listing:
    """List the files of a repository to download, with their sizes and the SHA-256 of large ones.

    Raises:
        CheckpointError: No such repository or revision, no single weights file in it, or a pipeline
            that is not known or not complete.
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
    index = get_json(f"{base}/{INDEX}") if INDEX in found else None
    if isinstance(index, dict) and is_latent(index):
        needed = files_needed(index, found)
        return Listing(commit, [_file(base, found[name], name) for name in needed])

    chosen = _chosen(repository, list(found))
    return Listing(commit, [_file(base, found[name], PurePosixPath(name).name) for name in chosen])


def _chosen(repository: str, names: list[str]) -> list[str]:
    """Choose the files of a model.

    These are diffusers' weights with their configuration, transformers' CLIP with its tokenizer, or
    else the only weights file, with a description in the project's own format if it has one.
    """
    places = ("scheduler_config.json", "scheduler/scheduler_config.json")
    schedule = [place for place in places if place in names][:1]

    for folder in ("", "unet/"):
        for suffix in (".safetensors", ".bin"):
            network = f"{folder}diffusion_pytorch_model{suffix}"
            config = f"{folder}config.json"
            if network in names and config in names:
                return [network, config, *schedule]

    if set(_CLIP) <= set(names):
        return [*_CLIP, *(name for name in _BESIDE_CLIP if name in names)]

    weights = [name for name in names if name.endswith(WEIGHT_SUFFIXES)]
    if len(weights) != 1:
        found = ", ".join(weights[:6]) + (" …" if len(weights) > 6 else "") if weights else "none"
        raise CheckpointError(
            f"{repository} has not one file of weights, but {len(weights)} ({found}); fetch the "
            "right one and give it as `model`=FILE"
        )

    description = str(PurePosixPath(weights[0]).with_suffix(".json"))

    return [weights[0], *([description] if description in names else [])]


def _file(base: str, facts: Mapping[str, Any], name: str) -> RemoteFile:
    """Describe a file, which is stored under a name, of a pipeline's in a folder of its own."""
    address = f"{base}/{quote(facts['rfilename'])}"
    large = facts.get("lfs") or {}
    return RemoteFile(name, (address,), facts.get("size"), large.get("sha256"))
