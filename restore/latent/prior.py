"""Embeddings of pictures that suit a text, by the prior of DALL·E 2's kind of models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from restore.latent.libraries import component, quiet
from restore.latent.text import Embedding, Texts

if TYPE_CHECKING:
    from pretrained.pipelines import Pipeline

# Seed of the prior: a text always has the same picture in its embedding.
SEED = 0


class ImagePrior(Texts):
    """The prior of a Kandinsky pipeline, loaded for a prompt and freed after it.

    A second diffusion draws CLIP's embedding of a picture from that of the text (Ramesh et al.
    2022, arXiv 2204.06125, section 2.2), in the steps and with the guidance of diffusers' own
    pipeline.
    No text, and an empty one, is the embedding of a black picture.

    Args:
        pipeline: The pipeline.
        device: Device of the prior and of the embeddings.
    """

    def __init__(self, pipeline: Pipeline, device: torch.device) -> None:
        self.pipeline = pipeline
        self.device = device
        self._known: dict[str, Embedding] = {}

    def embedding(self, text: str | None) -> Embedding:
        text = text or ""
        if text not in self._known:
            with torch.inference_mode(False), torch.no_grad(), quiet():
                self._known[text] = self._drawn(text)
        return self._known[text]

    def _drawn(self, text: str) -> Embedding:
        prior = self._prior()
        if not text:
            return Embedding(prior.get_zero_embed().float())

        generator = torch.Generator().manual_seed(SEED)
        return Embedding(prior(text, generator=generator).image_embeds.float())

    def _prior(self) -> Any:
        """Load the prior as a pipeline of its own."""
        names = {
            "prior": "prior_prior",
            "image_encoder": "prior_image_encoder",
            "text_encoder": "prior_text_encoder",
            "tokenizer": "prior_tokenizer",
            "scheduler": "prior_scheduler",
            "image_processor": "prior_image_processor",
        }
        parts = {name: self._part(each) for name, each in names.items()}

        import diffusers

        whole: Any = diffusers.KandinskyV22PriorPipeline
        pipeline = whole(**parts).to(self.device)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def _part(self, name: str) -> Any:
        if name not in self.pipeline.with_weights:
            return component(self.pipeline, name)
        variant = self.pipeline.variant(name)
        return component(
            self.pipeline,
            name,
            use_safetensors=True,
            variant=variant,
            torch_dtype=torch.float32,
        )
