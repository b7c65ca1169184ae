"""The Python blocks of the documentation run as they are written, page by page."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from support.networks import classifier_file, light, random_file, tiny, tiny_classifier
from support.pictures import piece
from support.pipelines import written
from support.published_networks import DdpmNetwork, randomised
from support.raws import raw_file

import operators
import pretrained
import restore
from restore.diffusion.denoiser import ModelConfig, joined_state
from restore.training.checkpoint import write_model

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES = {
    str(path.relative_to(ROOT)): text
    for path in sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    if BLOCK.search(text := path.read_text(encoding="utf-8"))
}
TUTORIAL = "docs/tutorial.md"
SIZE = (18, 12)


@pytest.mark.parametrize("page", [page for page in PAGES if page != TUTORIAL])
def test_the_blocks_of_a_page_run(page, tmp_path, monkeypatch, light_network) -> None:
    """In their order, in a folder with the files that they name."""
    monkeypatch.chdir(tmp_path)
    # Names of the catalogue are then those of files and folders here.
    monkeypatch.setattr(pretrained, "source_of", lambda model: None)
    PREPARED.get(Path(page).stem, lambda: None)()
    _run(page, _given())


def test_the_tutorial_does_what_it_says(tmp_path, monkeypatch, command, light_network) -> None:
    monkeypatch.chdir(tmp_path)
    _parrots()
    text = PAGES[TUTORIAL]
    (line,) = re.findall(r"^    (restore sr .*)$", text, re.MULTILINE)
    outcome = command(*line.split()[1:])
    assert outcome.code == 0
    assert "parrots-sr.png: 768x512, sr3, 6 step(s), noise 0.0000" in outcome.err
    assert Path("parrots-sr.compare.png").exists()

    names = _run(TUTORIAL, {})
    assert names["large"].size == (768, 512)
    # The network that replaces the shipped one leaves the range of colours more often.
    assert names["difference"] < 0.05
    untouched = ~np.asarray(names["mask"], bool)
    mended, photograph = (np.asarray(names[name])[untouched] for name in ("mended", "image"))
    assert (mended == photograph).all()
    assert (np.asarray(names["mended"])[~untouched] != 255).any()


def _run(page: str, names: dict[str, Any]) -> dict[str, Any]:
    for block in BLOCK.finditer(PAGES[page]):
        lines = PAGES[page].count("\n", 0, block.start(1))
        exec(compile("\n" * lines + block[1], page, "exec"), names)
    return names


def _given() -> dict[str, Any]:
    """Names that pages use without saying where they come from."""
    image = piece(SIZE)
    hole = np.zeros(SIZE[::-1], bool)
    hole[4:9, 5:12] = True
    return {
        "restore": restore,
        "operators": operators,
        "image": image,
        "mask": hole,
        "batch": torch.rand(2, 3, 12, 18, generator=torch.Generator().manual_seed(0)),
        "picture_of_that_size": image.resize((4 * SIZE[0], 4 * SIZE[1])),
        "device": torch.device("cpu"),
    }


def _mask() -> None:
    mask = Image.new("L", SIZE)
    mask.paste(255, (5, 4, 12, 9))
    mask.save("m.png")


def _photograph() -> None:
    piece(SIZE).save("in.png")


def _parrots() -> None:
    Path("parrots.png").write_bytes((ROOT / "examples" / "parrots.png").read_bytes())


def _photographs() -> None:
    Path("photos").mkdir()
    piece((96, 96)).save("photos/a.png")


def _latent() -> None:
    written(Path(), "inpainting").rename("sd15-inpainting")


def _enlarging_network() -> None:
    pytest.importorskip("spandrel")
    from spandrel.architectures.ESRGAN import ESRGAN

    torch.save(ESRGAN(num_filters=8, num_blocks=1).state_dict(), "RealESRGAN_x4plus.pth")


def _classifier() -> None:
    Path("adm-classifier256").mkdir()
    file = Path("adm-classifier256/diffusion_pytorch_model.safetensors")
    config = tiny_classifier(classes=1000)
    # Its attention is quadratic in the pixels of the last level.
    backbone = replace(config.backbone, channel_multipliers=(1,) * 5)
    config = replace(config, backbone=backbone)
    classifier_file(file, config)


def _third_party_weights() -> None:
    network = randomised(DdpmNetwork(multipliers=(1, 2), blocks=1))
    torch.save(network.state_dict(), "celeba_hq.ckpt")
    blocks = {"block_out_channels": (32, 32), "norm_num_groups": 32, "layers_per_block": 1}
    kinds = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    diffusers.UNet2DModel(**blocks, **kinds).save_pretrained("ddpm-church-256")
    diffusers.DDPMScheduler().save_pretrained("ddpm-church-256")


def _trained() -> None:
    Path("run").mkdir()
    random_file(Path("run/model.safetensors"), tiny())


def _exported() -> None:
    pytest.importorskip("onnxscript")
    from restore.export.order import Order
    from restore.export.run import export_to

    _photograph()
    config = ModelConfig.from_dict(pretrained.load("default").config)
    small = light(config, levels=1, blocks=0)
    state = joined_state(small.network.state_dict(), small.predictor.network.state_dict())
    model = write_model(small.config, state, Path("small.safetensors"))
    export_to(Path("restore-sr-x4.onnx"), Order("sr", str(model), 4))


PREPARED: dict[str, Callable[[], None]] = {
    "README": _mask,
    "evaluate": _photographs,
    "export": _exported,
    "feed-forward": _enlarging_network,
    "index": _photograph,
    "latent": _latent,
    "layouts": _third_party_weights,
    "own-model": _trained,
    "raw": lambda: raw_file(Path("IMG_1234.dng")) and None,
    "samplers": _classifier,
}
