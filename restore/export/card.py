"""The card of an exported file: what it is, how to feed it, and how to use it in other programs.

What is said of other programs follows their public documentation:

- darktable: https://docs.darktable.org/usermanual/development/en/preferences-settings/ai/,
  https://github.com/darktable-org/darktable-ai/wiki/Pipeline-reference and ``src/ai/README.md`` of
  its repository.
- chaiNNer: the descriptions of its ONNX nodes, https://github.com/chaiNNer-org/chaiNNer.
- ComfyUI: https://docs.comfy.org/custom-nodes/backend/tensors and its nodes for upscaling.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from restore.export.order import Order

# Scales for which darktable has a place.
OF_DARKTABLE = (2, 4)

TITLES = {"sr": "Super-resolution", "denoise": "Denoising"}

_MEASURED = """\
ONNX Runtime and PyTorch differ by at most {difference:.1e} on random pictures of {sizes} pixels."""

_INPUTS = """\
| tensor | type and shape | meaning |
|---|---|---|
| `input` | float32 `[1, 3, height, width]` | the picture: RGB, sRGB-encoded as in a file, 0 to 1 |
{noise}| `output` | float32 `[1, 3, {height}, {width}]` | the result, likewise, within 0 to 1 |

Height and width may be anything from 1 pixel; the graph pads and crops by itself.

**Grey pictures**: repeat the grey channel three times, and take the mean of the result's channels.
**Alpha**: the file knows none; enlarge it by other means. **8 bits**: divide by 255 before, and
multiply by 255 and round after."""

_NOISE_ROW = (
    "| `noise` | float32 `[1]` | standard deviation of the noise, for pixels in 0 to 1: 0.1 is 25 "
    "of 255 |\n"
)

_SR = """\
The file holds the predictor of the model and the projection onto the pictures whose bicubic
reduction is the input: what `restore sr --scale {scale} --method one-step` does. It is meant for
pictures without noise, blur or JPEG blocks, which it would enlarge as well."""

_DENOISE = """\
The file holds one call of the prior: what
`restore denoise --noise N --method one-step --parameter views=1` does. {level} It is white noise
that the model knows: the same everywhere, and not correlated between pixels."""

_PYTHON = """\
```python
import numpy as np, onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession({file!r})
pixels = np.asarray(Image.open("in.png").convert("RGB"), np.float32) / 255
feed = {{"input": pixels.transpose(2, 0, 1)[None]{noise}}}
result = session.run(["output"], feed)[0][0].transpose(1, 2, 0)
Image.fromarray((255 * result).round().astype(np.uint8)).save("out.png")
```"""

_DARKTABLE = """\
darktable runs ONNX models in its module *neural restore* from 5.6 on. *Preferences → AI → import
from file…* takes a `.dtmodel`: a ZIP archive with one folder, named as the id of the model, that
holds `config.json` and the file under the name `{inside}`:

```json
{config}
```

{both}This follows darktable's documentation; the file was not tried there."""

_BOTH = (
    "darktable looks for `model_x2.onnx` and `model_x4.onnx` in that folder: export both factors\n"
    "for both of its buttons. "
)

_NO_SCALE = "darktable has places for the factors 2 and 4 alone."
_NO_NOISE = (
    "darktable gives a denoiser the picture alone, or a noise map of another shape than `noise`\n"
    "has. Export with the level built in: `restore export --task denoise --noise 0.05`."
)

_CHAINNER = """\
*Load Model* and *Upscale Image* of the ONNX category take the file; choose a tile size in the
latter, since chaiNNer finds none by itself for ONNX."""
_CHAINNER_NOISE = """\
*Upscale Image* of the ONNX category gives a model the picture alone. Export with the level built
in: `restore export --task denoise --noise 0.05`."""

_COMFYUI = """\
ComfyUI's own *Load Upscale Model* reads weights for PyTorch and no ONNX. A custom node that runs
ONNX Runtime can use the file with the lines above: ComfyUI's images are
`[batch, height, width, 3]` in 0 to 1, so give the pictures of a batch one by one, as
`image[i].movedim(-1, 0)[None].numpy()`."""


def card_of(
    order: Order, about: Mapping[str, str], file: str, difference: float, sizes: str
) -> str:
    """Return the card in Markdown.

    Args:
        order: What was exported.
        about: The file's metadata.
        file: Name of the file.
        difference: Largest difference between ONNX Runtime and PyTorch.
        sizes: Sizes of the pictures that were compared, in words.
    """
    factor = f" ×{order.scale}" if order.task == "sr" else ""
    facts = "\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in about.items())
    parts = [
        f"# {file}",
        f"{TITLES[order.task]}{factor} in one call of a network, made by `restore export`.",
        f"| | |\n|---|---|\n{facts}",
        _what(order),
        _MEASURED.format(difference=difference, sizes=sizes),
        "## Input and output",
        _inputs(order),
        "## Python",
        _PYTHON.format(file=file, noise=_fed_noise(order)),
        "## darktable",
        _darktable(order, about),
        "## chaiNNer",
        _CHAINNER_NOISE if order.takes_noise else _CHAINNER,
        "## ComfyUI",
        _COMFYUI,
    ]
    return "\n\n".join(parts) + "\n"


def _what(order: Order) -> str:
    if order.task == "sr":
        return _SR.format(scale=order.scale)
    if order.noise is None:
        return _DENOISE.format(level="The level N is an input.")
    return _DENOISE.format(level=f"The level is built in: {order.noise:g}, for pixels in 0 to 1.")


def _inputs(order: Order) -> str:
    factor = "" if order.scale == 1 else f"{order.scale}·"
    noise = _NOISE_ROW if order.takes_noise else ""
    return _INPUTS.format(noise=noise, height=f"{factor}height", width=f"{factor}width")


def _fed_noise(order: Order) -> str:
    return ', "noise": np.array([0.1], np.float32)' if order.takes_noise else ""


def _darktable(order: Order, about: Mapping[str, str]) -> str:
    if order.takes_noise:
        return _NO_NOISE
    if order.task == "sr" and order.scale not in OF_DARKTABLE:
        return _NO_SCALE

    task = "upscale" if order.task == "sr" else "denoise"
    config = {
        "id": f"{task}-restore",
        "name": f"{task} restore",
        "description": f"{TITLES[order.task]} by restore, model {about['model']}",
        "task": task,
        "backend": "onnx",
        "version": "1.0",
    }
    inside = f"model_x{order.scale}.onnx" if order.task == "sr" else "model.onnx"
    return _DARKTABLE.format(
        inside=inside,
        config=json.dumps(config, indent=2),
        both=_BOTH if order.task == "sr" else "",
    )
