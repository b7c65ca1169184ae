"""What a network is told of a prompt, by the options of a user."""

from __future__ import annotations

import math

from restore.errors import BadArgument
from restore.latent.network import Text
from restore.latent.text import Texts


def chosen_text(
    texts: Texts,
    prompt: str | None,
    negative_prompt: str | None,
    guidance: float | None,
    own: float,
) -> Text:
    """Return the embeddings of a prompt, and the scale of guidance by it.

    Args:
        texts: The text encoders.
        prompt: What the picture shows; None is an empty text, without guidance.
        negative_prompt: What guidance leads away from; None is an empty text.
        guidance: Scale w of ``free + w (conditional − free)``; None is the model's own with a
            prompt, and 1, which is none, without.
        own: The model's own scale.

    Raises:
        BadArgument: A scale out of range, or a negative prompt without guidance.
    """
    given = prompt is not None or negative_prompt is not None
    scale = guidance if guidance is not None else own if given else 1.0
    if not (math.isfinite(scale) and scale >= 0):
        raise BadArgument(f"`guidance`={scale:g}: must be 0 or more; 1 is none")

    positive = texts.embedding("" if prompt is None else prompt)
    negative = None if scale == 1 else texts.embedding(negative_prompt)
    if scale == 1 and negative_prompt is not None:
        raise BadArgument(
            "`negative_prompt`: without guidance nothing leads away from it; give a `guidance` "
            "other than 1"
        )
    return Text(positive, negative, scale)
