"""Third-party feed-forward networks through spandrel: Real-ESRGAN, SwinIR, HAT, SCUNet, LaMa, ….

Spandrel (github.com/chaiNNer-org/spandrel, MIT licence) detects the architecture from the keys and
shapes of a state dict and gives all of them one interface. Files are read here: .safetensors, or
pickles by ``torch.load`` with ``weights_only``, which accepts no more than spandrel's own
restricted unpickler. TorchScript is code and therefore refused.
"""

from __future__ import annotations

import math
import os
import pickle
import re
import warnings
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from operators import ValidConvolution
from restore.errors import BadArgument, RestoreError, Unavailable
from restore.runtime.devices import HOST, is_out_of_memory, release_memory
from restore.runtime.tiles import Notice
from restore.runtime.tiling import Span, Spans, tile_area, tiling
from restore.tasks.problem import Operator, Problem

PREFIX = "spandrel:"
PICKLES = (".pth", ".pt", ".ckpt")
# How errors explain the name of such a method.
NAMED = f"{PREFIX}FILE, where FILE holds a third-party network"
INSTALL = "pip install 'restore-diffusion[spandrel]'"

# Overlap of neighbouring tiles, in pixels of the input.
OVERLAP = 64
# Range of the side of a tile in pixels of the input, unless the user gives one.
SMALLEST_TILE, LARGEST_TILE = 64, 1024


def is_feed_forward(method: str) -> bool:
    """Return True if the name of a method is ``spandrel:FILE``."""
    return method.startswith(PREFIX)


def short_name(method: str) -> str:
    """Return ``spandrel:FILE`` without the folder of the file; other names are unchanged."""
    return PREFIX + Path(method.removeprefix(PREFIX)).name if is_feed_forward(method) else method


def check_file(method: str) -> Path:
    """Return the file that ``spandrel:FILE`` names.

    Raises:
        Unavailable: the file is not named or does not exist, or its suffix is not supported.
    """
    path = Path(method.removeprefix(PREFIX))
    if method == PREFIX:
        raise Unavailable(f"{method} the file is missing; write {NAMED}")
    if not os.path.isfile(path):
        raise Unavailable(f"{method}: there is no such file")
    if path.suffix.lower() not in (".safetensors", *PICKLES):
        raise Unavailable(
            f"{method}: must be a file of weights, .safetensors, {', '.join(PICKLES)}"
        )

    return path


class FeedForward:
    """An image-to-image network of one call, for pictures of any size.

    It computes in float32, as published results do, and its output is not projected onto the
    measurement. Large pictures are processed in overlapping tiles, one at a time, blended like
    those of the denoiser; when memory runs out, the side of a tile is halved from then on.

    Args:
        method: ``spandrel:FILE``.
        device: device of the network.
        tile: side of a tile in pixels of the input; None estimates what ``memory`` allows.
        memory: bytes to use on the device.
        notice: called with warnings.

    Raises:
        Unavailable: spandrel is not installed, the file cannot be read or is refused, or its
            architecture is unknown.
    """

    def __init__(
        self,
        method: str,
        device: torch.device,
        *,
        tile: int | None = None,
        memory: int = 2**32,
        notice: Notice = warnings.warn,
    ) -> None:
        path = check_file(method)
        self.name = short_name(method)
        self.device = device
        self.notice = notice
        self.network = _load(path, method).to(device).eval()
        self.network.model.requires_grad_(False)
        self.architecture = self.network.architecture.name
        self.fills = self.network.purpose == "Inpainting"
        self.tile = tile or _side(memory, self.network.scale)

    def __call__(self, problem: Problem) -> Tensor:
        """Return the output of the network, in the visible size, on the device of the problem.

        Super-resolution by less than the scale of the network downsamples its output bicubically.

        Returns:
            Pictures [B, 3, H, W] in [0, 1].

        Raises:
            BadArgument: as `check`.
            RestoreError: memory ran out with the smallest tiles, or the output is not finite.
        """
        self.check(problem)
        y = problem.measurement
        shown = (
            y.reshape(-1, 1, *y.shape[-2:])
            if self.network.input_channels == 1
            else y.expand(-1, 3, -1, -1)
        )
        holes = None if not self.fills else (1 - _known(problem)).expand(len(y), -1, -1, -1)
        answer = self._through(shown, holes)
        answer = answer.reshape(len(y), -1, *answer.shape[-2:]).expand(-1, 3, -1, -1)
        if not bool(torch.isfinite(answer).all()):
            raise RestoreError(f"{self.name}: the network's result is not finite (NaN or infinity)")

        return _resampled(answer, seen_size(problem.operator))

    def check(self, problem: Problem) -> None:
        """Refuse a problem that the network is not for.

        Raises:
            BadArgument: its task, scale or channels differ from those of the network.
        """
        network = self.network
        measured = problem.measurement.shape[-2:]
        wanted = seen_size(problem.operator)
        about = f"{self.name}: {self.architecture}"
        if self.fills != problem.kind.fills_holes:
            tasks = (
                "inpaint only"
                if self.fills
                else "sr"
                if network.scale > 1
                else "denoise, deblur and colorize"
            )
            raise BadArgument(
                f"{about} {_purpose(network)}; it is for {tasks}, not for {problem.task}"
            )

        if self.fills and problem.condition is None:
            raise BadArgument(
                f"{about} fills whole pixels, and this mask hides some colours of them only"
            )
        if network.scale == 1 and tuple(measured) != wanted:
            raise BadArgument(
                f"{about} {_purpose(network)}; it does not enlarge, and {problem.task} wants that"
            )
        if network.scale > 1 and tuple(measured) == wanted:
            raise BadArgument(f"{about} {_purpose(network)}; it is for sr, not for {problem.task}")
        if any(have * network.scale < want for have, want in zip(measured, wanted, strict=True)):
            scale = max(want / have for have, want in zip(measured, wanted, strict=True))
            raise BadArgument(
                f"{about} enlarges {network.scale} times, which is less than {scale:.3g}; use "
                f"`scale`={network.scale} or below, or another network"
            )

        channels = (network.input_channels, network.output_channels)
        if channels not in ((3, 3), (1, 1), (1, 3)):
            raise BadArgument(
                f"{about} makes {channels[1]} channels of {channels[0]}; pictures have 3"
            )
        if problem.measurement.shape[1] != 1 and (
            problem.measurement.shape[1] != 3 or channels == (1, 3)
        ):
            raise BadArgument(
                f"{about} does not take a measurement of {problem.measurement.shape[1]} channels"
            )

    def _through(self, pictures: Tensor, holes: Tensor | None) -> Tensor:
        """Return the output for pictures [N, C, h, w], in smaller tiles if memory runs out."""
        while True:
            try:
                return self._in_tiles(pictures, holes)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self._use_less(pictures)
            release_memory(self.device)

    def _in_tiles(self, pictures: Tensor, holes: Tensor | None) -> Tensor:
        count, _, height, width = pictures.shape
        scale = self.network.scale
        channels = self.network.output_channels
        answer = pictures.new_zeros(count, channels, scale * height, scale * width)
        tiles = list(product(*self._spans(height, width)))

        for index, (rows, columns) in product(range(count), tiles):
            place = (slice(index, index + 1), slice(None), rows.place, columns.place)
            part = self._call(pictures[place], None if holes is None else holes[place])
            weights = _stretched(rows, scale)[:, None] * _stretched(columns, scale)
            answer[index, :, _place(rows, scale), _place(columns, scale)].addcmul_(
                part[0].to(answer), weights.to(answer)
            )

        return answer

    def _call(self, picture: Tensor, holes: Tensor | None) -> Tensor:
        """Return the output for a tile, which spandrel pads to a valid size and crops."""
        # a contiguous copy, since an architecture may work in place
        inputs = [
            part.to(self.device, copy=True).contiguous()
            for part in (picture, holes)
            if part is not None
        ]
        answer: Tensor = self.network(*inputs)
        return answer

    def _spans(self, height: int, width: int) -> tuple[Spans, Spans]:
        area = height * width if self._tiles_itself else self.tile**2
        return tiling(height, width, area, OVERLAP, self.network.size_requirements.multiple_of)

    @property
    def _tiles_itself(self) -> bool:
        return bool(self.network.tiling.name == "INTERNAL")

    def _use_less(self, pictures: Tensor) -> None:
        """Halve the side of a tile.

        Raises:
            RestoreError: tiles cannot be smaller.
        """
        area = tile_area(*self._spans(*pictures.shape[-2:]), grid=1)
        smaller = max(math.isqrt(area) // 2, SMALLEST_TILE)
        if smaller**2 >= area or self._tiles_itself:
            raise RestoreError(
                f"{self.name}: not enough memory, even for pieces of {self.tile}x{self.tile} "
                "pixels; close other programs, restore a smaller picture, or use another `device`"
            )

        self.tile = smaller
        self.notice(f"{self.name}: not enough memory, going on with tiles of {smaller} pixels")


def on_canvas(operator: Operator, picture: Tensor) -> Tensor:
    """Return a picture in the input size of an operator, padded by replication if it is larger."""
    if not isinstance(operator, ValidConvolution):
        return picture
    top, bottom, left, right = operator.margins
    return F.pad(picture, (left, right, top, bottom), mode="replicate")


def seen_size(operator: Operator) -> tuple[int, int]:
    """Return height and width of the visible result."""
    shape = (
        operator.output_shape if isinstance(operator, ValidConvolution) else operator.input_shape
    )
    return shape[-2], shape[-1]


def _known(problem: Problem) -> Tensor:
    """Return 1 where a pixel is known, else 0, [B or 1, 1, H, W]."""
    assert problem.condition is not None
    return problem.condition.known


def _resampled(picture: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(picture.shape[-2:]) == size:
        return picture
    smaller = F.interpolate(picture.to(HOST), size=size, mode="bicubic", antialias=True)
    return smaller.clamp(0, 1).to(picture.device)


def _purpose(network: Any) -> str:
    if network.purpose == "Inpainting":
        return "fills holes"
    return (
        f"enlarges {network.scale} times" if network.scale > 1 else "restores pictures of one size"
    )


def _side(memory: int, scale: int) -> int:
    """Return the side of a tile for a memory in bytes."""
    # a rough estimate: 1.5 times what SwinIR takes for ×4, three times what RRDBNet does
    per_pixel = 24e3 + 1e3 * scale**2
    return min(max(math.isqrt(int(memory / per_pixel)), SMALLEST_TILE), LARGEST_TILE)


def _place(span: Span, scale: int) -> slice:
    return slice(scale * span.start, scale * span.stop)


def _stretched(span: Span, scale: int) -> Tensor:
    """Return the weights of a span for the enlarged picture, which still sum to 1."""
    return torch.from_numpy(span.weights).repeat_interleave(scale)


def _load(path: Path, what: str) -> Any:
    """Return spandrel's descriptor of a network, on the host.

    Raises:
        Unavailable: spandrel is not installed, or its architectures do not fit the file.
    """
    try:
        import spandrel
    except ImportError as error:
        raise Unavailable(f"{what}: needs the package spandrel ({error}); {INSTALL}") from None

    state = spandrel.canonicalize_state_dict(_state(path, what))
    try:
        return spandrel.ModelLoader().load_from_state_dict(state)
    except spandrel.UnsupportedModelError:
        raise Unavailable(
            f"{what}: none of the architectures that spandrel {spandrel.__version__} knows; its "
            f"tensors are {', '.join(list(state)[:3])} …"
        ) from None
    except Exception as error:  # architectures raise anything for weights that only resemble theirs
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise Unavailable(
            f"{what}: the weights do not fit the architecture that they resemble ({reason})"
        ) from None


def _state(path: Path, what: str) -> dict[str, Any]:
    """Return the tensors of a file by name.

    Raises:
        Unavailable: the file is damaged, or a pickle that could run code.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = _pickled(path)
    except Exception as error:  # readers raise anything for other files
        raise Unavailable(f"{what}: {_why_unread(error)}") from None

    if not isinstance(state, Mapping) or not state:
        raise Unavailable(
            f"{what}: holds no state dict but a {type(state).__name__}; save the network's "
            "state_dict"
        )

    return dict(state)


def _pickled(path: Path) -> Any:
    with warnings.catch_warnings(action="ignore"):
        return torch.load(path, map_location="cpu", weights_only=True)


def _why_unread(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, pickle.UnpicklingError):
        if found := re.search(r"GLOBAL (\S+)", text):
            return (
                f"refused: it holds more than tensors ({found[1]}), which could run code; save "
                "the state_dict"
            )
        return (
            "no weights that can be read: it is damaged, or a pickle that holds more than tensors"
        )

    if "TorchScript" in text:
        return "refused: TorchScript is a program, not weights; save the network's state_dict"

    return f"no weights that can be read ({(text or type(error).__name__)[:200]})"
