"""CLIP (Radford et al. 2021, arXiv 2103.00020): how well pictures suit a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pretrained.errors import CheckpointError
from pretrained.pipelines import described
from restore.diffusion.cutouts import Cutouts
from restore.errors import Unavailable
from restore.latent.libraries import loaded, quiet
from restore.messages import say

# Mean and standard deviation of pixels in [0, 1] in CLIP's training, where a folder does not say.
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)


class Clip:
    """A CLIP model.

    Args:
        model: transformers' CLIPModel.
        tokenizer: Its tokenizer.
        mean: Mean of the pixels in [0, 1] that it was trained on, of each channel.
        deviation: Their standard deviation.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        mean: Sequence[float] = MEAN,
        deviation: Sequence[float] = DEVIATION,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.side = int(model.config.vision_config.image_size)
        self._length = int(model.config.text_config.max_position_embeddings)
        self._mean, self._deviation = (
            torch.tensor(tuple(values), dtype=torch.float32).reshape(1, 3, 1, 1)
            for values in (mean, deviation)
        )

    def text(self, prompt: str) -> Tensor:
        """Return the embedding of a text, [1, D] of length 1."""
        tokens = self.tokenizer(
            prompt, max_length=self._length, truncation=True, return_tensors="pt"
        )
        whole = self.tokenizer(prompt, truncation=False, verbose=False).input_ids
        if len(whole) > self._length:
            unseen = self.tokenizer.decode(whole[self._length - 1 : -1]).strip()
            say(f"CLIP sees {self._length - 2} tokens of the prompt, and not its end: {unseen!r}")

        device = self.model.device
        with quiet(), torch.inference_mode(False), torch.no_grad():
            found = self.model.text_model(
                input_ids=tokens.input_ids.to(device),
                attention_mask=tokens.attention_mask.to(device),
            )
            return F.normalize(self.model.text_projection(found.pooler_output).float(), dim=-1)

    def pictures(self, squares: Tensor) -> Tensor:
        """Return the embeddings of pictures, differentiable.

        Args:
            squares: [N, 3, side, side] in [-1, 1].

        Returns:
            [N, D] of length 1.
        """
        pixels = ((squares.float() + 1) / 2 - self._mean.to(squares.device)) / self._deviation.to(
            squares.device
        )
        found = self.model.vision_model(pixel_values=pixels.to(self.model.device))
        return F.normalize(self.model.visual_projection(found.pooler_output).float(), dim=-1)

    def similarity(
        self, prompt: str, cutouts: Cutouts, negative_prompt: str | None = None
    ) -> Callable[[Tensor], Tensor]:
        """Return how well clean pictures suit a text.

        Args:
            prompt: The text.
            cutouts: What CLIP sees of a picture, in squares of its `side`.
            negative_prompt: A text that they shall not suit, whose similarity is subtracted.

        Returns:
            A function of pictures [B, 3, H, W], of which it sees what is in [-1, 1]: the mean
            cosine of the angles between the embeddings of text and cut-outs, [B] in [-1, 1] (or in
            [-2, 2] with two texts), differentiable.
        """
        text = self.text(prompt)
        if negative_prompt is not None:
            text = text - self.text(negative_prompt)

        def similarity(pictures: Tensor) -> Tensor:
            pieces = cutouts(pictures.clamp(-1, 1))
            embedded = self.pictures(pieces.flatten(0, 1))
            cosines = (embedded @ text.T.to(embedded)).reshape(pieces.shape[:2])
            return cosines.mean(dim=0).to(pictures.device)

        return similarity


def load_clip(folder: Path, device: torch.device | str = "cpu") -> Clip:
    """Load a CLIP model from its folder, as transformers saves it, in float32.

    Args:
        folder: Has config.json, model.safetensors and the files of the tokenizer.
        device: Device of the model.

    Raises:
        CheckpointError: It is no folder of a CLIP model, or its weights are a pickle.
        Unavailable: A package is missing, or a file damaged.
    """
    kind = described(folder / "config.json").get("model_type")
    if kind != "clip":
        raise CheckpointError(f"config.json: of the kind {kind!r}, and no CLIP model")

    model = loaded("CLIPModel", folder, "CLIP", use_safetensors=True, torch_dtype=torch.float32)
    tokenizer = loaded("CLIPTokenizer", folder, "CLIP's tokenizer")
    seen = folder / "preprocessor_config.json"
    about = described(seen) if seen.is_file() else {}
    try:
        return Clip(
            model.requires_grad_(False).eval().to(device),
            tokenizer,
            about.get("image_mean", MEAN),
            about.get("image_std", DEVIATION),
        )
    except (TypeError, ValueError, RuntimeError):
        raise Unavailable(
            "preprocessor_config.json: image_mean and image_std must be three numbers each"
        ) from None
