"""A small CLIP model with random weights, in a folder as transformers saves it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from support.published_networks import randomised

SIDE = 16
_LETTERS = "abcdefghijklmnopqrstuvwxyz,"


def written_clip(folder: Path) -> Path:
    """Write the model with its tokenizer, and return its folder."""
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig

    folder.mkdir(parents=True, exist_ok=True)
    words = ["<|startoftext|>", "<|endoftext|>", *_LETTERS, *(f"{one}</w>" for one in _LETTERS)]
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    few: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": 16,
    }
    text = CLIPTextConfig(
        **few, vocab_size=len(words), bos_token_id=0, eos_token_id=1, pad_token_id=1
    )
    vision = CLIPVisionConfig(**few, image_size=SIDE, patch_size=4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = {"text_config": text.to_dict(), "vision_config": vision.to_dict()}
        model = CLIPModel(CLIPConfig(**parts, projection_dim=16))
    # with its own, which are small, all pictures look alike
    randomised(model)
    with torch.no_grad():
        model.vision_model.embeddings.patch_embedding.weight *= 4
    model.save_pretrained(folder, safe_serialization=True)
    paths = (str(folder / name) for name in ("vocab.json", "merges.txt"))
    CLIPTokenizer(*paths, model_max_length=77).save_pretrained(folder)
    return folder
