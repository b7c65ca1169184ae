"""Pipelines of diffusers: folders of several networks, described by a model_index.json.

What is known of a pipeline follows from its class (`FAMILIES`). This module reads the description
and finds the files; `restore.latent` loads the networks by diffusers and transformers. Weights are
taken as .safetensors alone: a pickle can hold code.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pretrained.errors import CheckpointError
from pretrained.tables import BadTable, read_json

INDEX = "model_index.json"

# What a network sees beside the noisy latents.
Sees = Literal["known pixels", "low resolution"]

# Weights as diffusers and transformers name them, without the suffix.
_STEMS = ("diffusion_pytorch_model", "model")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True)
class Family:
    """What pipelines of a class have in common.

    Attributes:
        name: Name in messages.
        network: Component that denoises latents.
        autoencoder: Component that encodes and decodes pictures; None for a network of pixels.
        texts: Pairs of tokenizer and text encoder.
        guidance: Scale of classifier-free guidance by a prompt, as the pipeline or its card has it.
        sees: What the network sees beside the latents; ``known pixels`` also follows from the
            channels of a network.
        optional: Components that may be left out.
        schedulers: Components that hold noise schedules.
        others: Further networks of the text, and what has no weights.
        plain_text: The text is encoded in lower case, and its padding masked.
    """

    name: str
    network: str = "unet"
    autoencoder: str | None = "vae"
    texts: tuple[tuple[str, str], ...] = ()
    guidance: float = 1.0
    sees: Sees | None = None
    optional: frozenset[str] = frozenset()
    schedulers: tuple[str, ...] = ("scheduler",)
    others: tuple[str, ...] = ()
    plain_text: bool = False

    @property
    def components(self) -> tuple[str, ...]:
        """Names of all components that are used."""
        texts = (name for pair in self.texts for name in pair)
        coder = () if self.autoencoder is None else (self.autoencoder,)
        return (self.network, *coder, *self.schedulers, *texts, *self.others)

    @property
    def tokenizers(self) -> tuple[str, ...]:
        """Components without weights that prepare texts and pictures."""
        others = (name for name in self.others if name.endswith("_processor"))
        return (*(tokenizer for tokenizer, _ in self.texts), *others)

    def has_weights(self, component: str) -> bool:
        """Return True if a component is a network."""
        return component not in (*self.schedulers, *self.tokenizers)


_ONE_TEXT = (("tokenizer", "text_encoder"),)
_TWO_CLIPS = (*_ONE_TEXT, ("tokenizer_2", "text_encoder_2"))
_STABLE = Family("Stable Diffusion", texts=_ONE_TEXT, guidance=7.5)
_STABLE_XL = Family("Stable Diffusion XL", texts=_TWO_CLIPS, guidance=5.0)
_LDM = Family("latent diffusion", autoencoder="vqvae")

FAMILIES: Mapping[str, Family] = {
    "StableDiffusionPipeline": _STABLE,
    "StableDiffusionImg2ImgPipeline": _STABLE,
    "StableDiffusionInpaintPipeline": _STABLE,
    "StableDiffusionXLPipeline": _STABLE_XL,
    "StableDiffusionXLInpaintPipeline": _STABLE_XL,
    "StableDiffusionUpscalePipeline": Family(
        "Stable Diffusion's upscaler",
        texts=_ONE_TEXT,
        guidance=9.0,
        sees="low resolution",
        schedulers=("scheduler", "low_res_scheduler"),
    ),
    "StableDiffusion3Pipeline": Family(
        "Stable Diffusion 3",
        network="transformer",
        texts=(*_TWO_CLIPS, ("tokenizer_3", "text_encoder_3")),
        guidance=7.0,
        optional=frozenset({"tokenizer_3", "text_encoder_3"}),
    ),
    "KandinskyV22CombinedPipeline": Family(
        "Kandinsky 2.2",
        autoencoder="movq",
        texts=(("prior_tokenizer", "prior_text_encoder"),),
        guidance=4.0,
        schedulers=("scheduler", "prior_scheduler"),
        others=("prior_prior", "prior_image_encoder", "prior_image_processor"),
    ),
    "LDMPipeline": _LDM,
    "LatentDiffusionUncondPipeline": _LDM,  # its name in older folders
    "LDMTextToImagePipeline": Family(
        "latent diffusion", autoencoder="vqvae", texts=(("tokenizer", "bert"),), guidance=6.0
    ),
    "LDMSuperResolutionPipeline": Family(
        "latent super-resolution", autoencoder="vqvae", sees="low resolution"
    ),
    "IFPipeline": Family(
        "DeepFloyd IF", autoencoder=None, texts=_ONE_TEXT, guidance=7.0, plain_text=True
    ),
    "IFSuperResolutionPipeline": Family(
        "DeepFloyd IF's super-resolution",
        autoencoder=None,
        texts=_ONE_TEXT,
        guidance=4.0,
        sees="low resolution",
        schedulers=("scheduler", "image_noising_scheduler"),
        plain_text=True,
    ),
}


@dataclass(frozen=True)
class Pipeline:
    """A folder of a known pipeline whose components are all there.

    Attributes:
        folder: The folder.
        family: What its class says.
        components: Class of each component that is used, by its name.
        options: The other entries of model_index.json.
    """

    folder: Path
    family: Family
    components: Mapping[str, str]
    options: Mapping[str, Any]

    def config(self, component: str) -> dict[str, Any]:
        """Read the description of a component.

        Raises:
            CheckpointError: It is missing, or cannot be read.
        """
        is_schedule = component in self.family.schedulers
        name = "scheduler_config.json" if is_schedule else "config.json"
        return described(self.folder / component / name)

    def weights(self, component: str) -> list[Path]:
        """Files of the weights of a component, the index of their parts included.

        Raises:
            CheckpointError: There are none, or only pickles.
        """
        folder = self.folder / component
        names = [path.name for path in folder.iterdir() if path.is_file()]
        chosen = chosen_weights(names)
        if not chosen:
            raise CheckpointError(_without_weights(component, names))
        return [folder / name for name in chosen]

    def variant(self, component: str) -> str | None:
        """Return ``fp16`` for weights of that name, as `from_pretrained` takes it."""
        parts = self.weights(component)[0].name.split(".")
        return "fp16" if "fp16" in parts else None

    @property
    def with_weights(self) -> tuple[str, ...]:
        """Names of the components that are networks."""
        return tuple(name for name in self.components if self.family.has_weights(name))

    @property
    def files(self) -> list[Path]:
        """All files that make the model, model_index.json first."""
        found = [self.folder / INDEX]
        for component in sorted(self.components):
            if component in self.with_weights:
                found += [self.folder / component / "config.json", *self.weights(component)]
            else:
                found += sorted(p for p in (self.folder / component).iterdir() if p.is_file())
        return found

    @property
    def size(self) -> int:
        """Size of all weights in bytes."""
        return sum(
            path.stat().st_size
            for component in self.with_weights
            for path in self.weights(component)
        )


def index_of(folder: Path) -> dict[str, Any] | None:
    """Read model_index.json; None if there is none.

    Raises:
        CheckpointError: It cannot be read.
    """
    if not os.path.isfile(folder / INDEX):
        return None
    return described(folder / INDEX)


def is_latent(index: Mapping[str, Any] | None) -> bool:
    """Return True for the model_index.json of a known pipeline, or one with an autoencoder."""
    if index is None:
        return False
    components = ("vae", "vqvae", "movq")
    return index.get("_class_name") in FAMILIES or any(name in index for name in components)


def read(folder: Path) -> Pipeline:
    """Read the description of a pipeline, and check that everything it needs is there.

    Raises:
        CheckpointError: It is no pipeline, or one of an unknown class; a component is missing, has
            no description, or has its weights as a pickle.
    """
    index = index_of(folder)
    if index is None:
        raise CheckpointError(f"{folder}: no pipeline of diffusers, for it has no {INDEX}")

    family = family_of(index)
    components = {}
    for name in family.components:
        kind = _class_of(index, name)
        if kind is None and name in family.optional:
            continue
        if kind is None:
            raise CheckpointError(f"{INDEX} names no {name}, which {family.name} needs")
        if not os.path.isdir(folder / name):
            raise CheckpointError(f"the component {name} is missing: there is no folder {name}/")
        components[name] = kind

    pipeline = Pipeline(folder, family, components, _options(index, components))
    for name in (*family.schedulers, *pipeline.with_weights):
        pipeline.config(name)
    for name in pipeline.with_weights:
        pipeline.weights(name)

    return pipeline


def family_of(index: Mapping[str, Any]) -> Family:
    """Return the family of a model_index.json.

    Raises:
        CheckpointError: Its class is not known.
    """
    kind = str(index.get("_class_name"))
    if kind not in FAMILIES:
        raise CheckpointError(
            f"a pipeline of the class {kind}, which is not known here; known are "
            f"{', '.join(FAMILIES)}"
        )
    return FAMILIES[kind]


def files_needed(index: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Choose the files of a pipeline among those of a repository, model_index.json first.

    Raises:
        CheckpointError: As `read`.
    """
    family = family_of(index)
    below: dict[str, list[str]] = {}
    for name in names:
        folder, _, file = name.partition("/")
        if file and not any(mark in file for mark in "/\\"):
            below.setdefault(folder, []).append(file)

    chosen = [INDEX]
    for component in family.components:
        if _class_of(index, component) is None and component in family.optional:
            continue
        if component not in below:
            raise CheckpointError(f"the component {component} is missing in the repository")
        chosen += [f"{component}/{file}" for file in _needed(family, component, below[component])]

    return chosen


def chosen_weights(names: Iterable[str]) -> list[str]:
    """Choose the weights among the files of a component, .safetensors alone.

    Full precision goes before half, one file before several with their index.

    >>> chosen_weights(["model.fp16.safetensors", "model.safetensors", "pytorch_model.bin"])
    ['model.safetensors']
    """
    there = sorted(names)
    for variant in ("", ".fp16"):
        for stem in _STEMS:
            whole = f"{stem}{variant}.safetensors"
            if whole in there:
                return [whole]
            # diffusers names the variant before or after "index"
            for index in (
                f"{stem}.safetensors.index{variant}.json",
                f"{stem}{variant}.safetensors.index.json",
            ):
                parts = [one for one in there if _is_part(one, stem, variant)]
                if index in there and parts:
                    return [*parts, index]

    return []


def _is_part(name: str, stem: str, variant: str) -> bool:
    """Return True for one of several files of weights, such as model-00001-of-00002.safetensors."""
    numbered = name.startswith((f"{stem}{variant}-", f"{stem}-")) and name.endswith(".safetensors")
    return numbered and (variant in name if variant else ".fp16" not in name)


def _needed(family: Family, component: str, names: list[str]) -> list[str]:
    """Choose the files of a component."""
    if component in family.schedulers:
        return [name for name in ("scheduler_config.json",) if name in names]
    if component in family.tokenizers:
        return sorted(name for name in names if name.endswith((".json", ".txt", ".model")))

    chosen = chosen_weights(names)
    if not chosen:
        raise CheckpointError(_without_weights(component, names))
    return ["config.json", *chosen]


def _without_weights(component: str, names: Iterable[str]) -> str:
    """Describe a component without weights that can be taken."""
    pickled = sorted(name for name in names if name.endswith(_PICKLES))
    if not pickled:
        return f"the component {component} has no weights: there is no .safetensors in {component}/"
    return (
        f"{component}/{pickled[0]}: refused, for a pickle can hold code, which would run on "
        "loading; pipelines are taken as .safetensors alone, as save_pretrained of diffusers "
        "writes them"
    )


def _class_of(index: Mapping[str, Any], component: str) -> str | None:
    """Return the class of a component; None if it is left out."""
    entry = index.get(component)
    known = isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str)
    return entry[1] if known and isinstance(entry, list) else None


def _options(index: Mapping[str, Any], components: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: value
        for name, value in index.items()
        if name not in components and not name.startswith("_")
    }


def described(path: Path) -> dict[str, Any]:
    """Read the description of a component, a table in JSON.

    Raises:
        CheckpointError: It is missing, or is no table.
    """
    try:
        found = read_json(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent.name}/{path.name} is missing") from None
    except (OSError, BadTable) as error:
        raise CheckpointError(f"{path}: not a readable description: {error}") from None

    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: not a description, but {type(found).__name__}")
    return found
