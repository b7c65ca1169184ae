"""Texts as networks take them: embeddings of a prompt by the encoders of its pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor

from restore.latent.libraries import component, quiet
from restore.messages import say
from restore.runtime.budget import SHARE
from restore.runtime.devices import HOST, free_memory

if TYPE_CHECKING:
    from pretrained.pipelines import Pipeline

# Tokens of T5 in Stable Diffusion 3, as in its pipeline.
T5_TOKENS = 256
# Tokens of the BERT of latent diffusion, which its tokenizer does not name.
BERT_TOKENS = 77


class Embedding(NamedTuple):
    """A text, or several as a batch.

    Attributes:
        tokens: [B, L, D], what cross-attention sees; [B, D] of a picture.
        pooled: [B, P], the whole text; None where a network takes none.
    """

    tokens: Tensor
    pooled: Tensor | None = None

    def to(self, place: torch.device | torch.dtype) -> Self:
        """Return it on a device, or in a dtype."""
        return self._replace(
            tokens=self.tokens.to(place),
            pooled=None if self.pooled is None else self.pooled.to(place),
        )

    def repeated(self, count: int) -> Self:
        """Return each text so many times in a row."""
        return self._replace(
            tokens=self.tokens.repeat_interleave(count, dim=0),
            pooled=None if self.pooled is None else self.pooled.repeat_interleave(count, dim=0),
        )

    @staticmethod
    def joined(texts: list[Embedding]) -> Embedding:
        """Return texts as one batch."""
        pooled = [text.pooled for text in texts if text.pooled is not None]
        return Embedding(
            torch.cat([text.tokens for text in texts]), torch.cat(pooled) if pooled else None
        )


class Texts(Protocol):
    """What makes embeddings of texts."""

    def embedding(self, text: str | None) -> Embedding:
        """Return the embedding of a text, computed once; None is no text."""


class TextEncoders(Texts):
    """The text encoders of a pipeline, loaded for a prompt and freed after it.

    Beside the denoising network they would take memory for nothing: T5 alone takes 9 GB. One that
    is too large for what the device has left encodes on the host.

    Args:
        pipeline: A pipeline with texts.
        width: Channels of what cross-attention sees.
        device: Device that encodes, and of the embeddings.
        dtype: Type of the encoders.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        width: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.pipeline = pipeline
        self.width = width
        self.device = device
        self.dtype = dtype
        self._known: dict[str | None, Embedding] = {}

    def embedding(self, text: str | None) -> Embedding:
        """Return the embedding of a text, computed once.

        Args:
            text: The text; None is no text, which Stable Diffusion XL tells from an empty one.
        """
        if text is None and not self._zeros_for_none:
            text = ""
        if text is not None and self.pipeline.family.plain_text:
            text = text.lower().strip()
        if text not in self._known:
            self._known[text] = self._embedded(text)
        return self._known[text]

    @property
    def _zeros_for_none(self) -> bool:
        return bool(self.pipeline.options.get("force_zeros_for_empty_prompt", False))

    def _embedded(self, text: str | None) -> Embedding:
        with torch.inference_mode(False), torch.no_grad():
            found = self._of_pipeline("" if text is None else text)
        if text is not None:
            return found
        pooled = None if found.pooled is None else torch.zeros_like(found.pooled)
        return Embedding(torch.zeros_like(found.tokens), pooled)

    def _of_pipeline(self, text: str) -> Embedding:
        """Return the embedding as the pipeline makes it of its encoders' outputs."""
        pairs = [pair for pair in self.pipeline.family.texts if pair[1] in self.pipeline.components]
        if len(self.pipeline.family.texts) == 1:
            return Embedding(self._whole(self._outputs(pairs[0], text)[0]))

        clips = [self._outputs(pair, text) for pair in pairs if not pair[1].endswith("_3")]
        tokens = torch.cat([self._whole(one.hidden_states[-2]) for one in clips], dim=-1)
        if len(self.pipeline.family.texts) == 2:
            return Embedding(tokens, self._whole(clips[1][0]))

        pooled = torch.cat([self._whole(outputs[0]) for outputs in clips], dim=-1)
        tokens = torch.nn.functional.pad(tokens, (0, self.width - tokens.shape[-1]))
        return Embedding(torch.cat([tokens, self._by_t5(pairs, text)], dim=1), pooled)

    def _by_t5(self, pairs: list[tuple[str, str]], text: str) -> Tensor:
        """Return T5's output, or zeros where the pipeline leaves it out."""
        for pair in pairs:
            if pair[1].endswith("_3"):
                return self._whole(self._outputs(pair, text, T5_TOKENS)[0])
        return torch.zeros(1, T5_TOKENS, self.width, dtype=torch.float32, device=self.device)

    def _whole(self, output: Tensor) -> Tensor:
        """Return an output in float32 on the device of the embeddings."""
        return output.to(self.device, torch.float32)

    def _place(self, encoder: str) -> torch.device:
        """Return the device, or the host if an encoder is too large for what is left of it."""
        size = sum(path.stat().st_size for path in self.pipeline.weights(encoder))
        return self.device if size < SHARE * free_memory(self.device) else HOST

    def _outputs(self, pair: tuple[str, str], text: str, length: int | None = None) -> Any:
        """Return what a text encoder makes of a text."""
        tokenizer_name, encoder_name = pair
        tokenizer = component(self.pipeline, tokenizer_name)
        encoder = component(
            self.pipeline,
            encoder_name,
            use_safetensors=True,
            variant=self.pipeline.variant(encoder_name),
        )
        length = length or min(tokenizer.model_max_length, BERT_TOKENS)
        tokens = tokenizer(
            text, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        self._tell_cut(tokenizer, text, length)

        place = self._place(encoder_name)
        encoder = encoder.to(place, torch.float32 if place == HOST else self.dtype).eval()
        seen = tokens.input_ids.to(place)
        with quiet():
            if self.pipeline.components[encoder_name] == "LDMBertModel":
                return encoder(seen)

            plain = self.pipeline.family.plain_text
            mask = plain or getattr(encoder.config, "use_attention_mask", False)
            shown = {"attention_mask": tokens.attention_mask.to(place)} if mask else {}
            return encoder(seen, output_hidden_states=True, **shown)

    def _tell_cut(self, tokenizer: Any, text: str, length: int) -> None:
        """Say which end of a text the encoder does not see."""
        whole = tokenizer(text, truncation=False, verbose=False).input_ids
        if len(whole) > length:
            unseen = tokenizer.decode(whole[length - 1 : -1]).strip()
            say(f"the model sees {length - 2} tokens of the prompt, and not its end: {unseen!r}")
