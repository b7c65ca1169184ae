"""The classes of diffusers and transformers that components are loaded by."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from restore.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pretrained.pipelines import Pipeline

INSTALL = "pip install 'restore-diffusion[latent]'"

# Module of each class that a model_index.json may name; no other is imported.
CLASSES: Mapping[str, str] = {
    "UNet2DModel": "diffusers",
    "UNet2DConditionModel": "diffusers",
    "SD3Transformer2DModel": "diffusers",
    "AutoencoderKL": "diffusers",
    "VQModel": "diffusers",
    "LDMBertModel": "diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion",
    "CLIPModel": "transformers",
    "CLIPTextModel": "transformers",
    "CLIPTextModelWithProjection": "transformers",
    "CLIPVisionModelWithProjection": "transformers",
    "CLIPImageProcessor": "transformers",
    "PriorTransformer": "diffusers",
    "UnCLIPScheduler": "diffusers",
    "T5EncoderModel": "transformers",
    "CLIPTokenizer": "transformers",
    "CLIPTokenizerFast": "transformers",
    "BertTokenizer": "transformers",
    "BertTokenizerFast": "transformers",
    "T5Tokenizer": "transformers",
    "T5TokenizerFast": "transformers",
}


def check_installed() -> None:
    """Refuse to go on without diffusers and transformers.

    Raises:
        Unavailable: One of them is missing.
    """
    from importlib.util import find_spec

    for name in ("diffusers", "transformers"):
        if find_spec(name) is None:
            raise Unavailable(f"latent models need {name}: {INSTALL}")


def component(pipeline: Pipeline, name: str, **options: Any) -> Any:
    """Load a component of a pipeline from its folder, and from nowhere else.

    Args:
        pipeline: The pipeline.
        name: Name of the component, also that of its folder.
        **options: As `from_pretrained` takes them.

    Raises:
        Unavailable: Its class is not known, the package is missing, or the files are damaged.
    """
    kind = pipeline.components[name]
    if kind not in CLASSES:
        raise Unavailable(f"the component {name} is a {kind}, which is not known here")
    return loaded(kind, pipeline.folder / name, f"the component {name}", **options)


def loaded(kind: str, folder: Path, what: str, **options: Any) -> Any:
    """Load an object of a class of `CLASSES` from its folder, and from nowhere else.

    Args:
        kind: Name of the class.
        folder: Its folder.
        what: What it is, for errors.
        **options: As `from_pretrained` takes them.

    Raises:
        Unavailable: The package is missing, or the files are damaged.
    """
    check_installed()

    try:
        with quiet():
            loader = getattr(import_module(CLASSES[kind]), kind)
            return loader.from_pretrained(folder, local_files_only=True, **options)
    except ImportError as error:
        raise Unavailable(f"{what} needs a package: {error}; {INSTALL}") from None
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
        raise Unavailable(f"{what} cannot be loaded: {_first_line(error)}") from None
    except Exception as error:
        # safetensors and tokenizers raise plain exceptions of their own
        if type(error).__module__.split(".")[0] in ("safetensors", "safetensors_rust", "builtins"):
            raise Unavailable(f"{what} cannot be loaded: {_first_line(error)}") from None
        raise


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' bars and remarks from the terminal."""
    import logging

    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            _without_bars()
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _without_bars() -> None:
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    of_diffusers.disable_progress_bar()
    of_transformers.disable_progress_bar()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
