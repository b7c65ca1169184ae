"""The task of inpainting."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, ClassVar, Self

from restore.errors import BadArgument, of_option
from restore.tasks.kind import Kind
from restore.tasks.option import NOISE_OPTION, Noise, Option, check_within
from restore.tasks.task import Task

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from restore.diffusion.denoiser import Condition
    from restore.photo.pictures import Picture
    from restore.tasks.problem import Operator, Problem

MAX_RADIUS = 1000

# Mask of the scratches and dust that are found in the picture.
AUTO_SCRATCHES = "auto:scratches"

# Options of a mask that is given, and their defaults.
_OF_GIVEN: dict[str, Any] = {"threshold": 0.5, "invert_mask": False, "fit_mask": False}


def parse_mask(given: str | Path) -> Path | str:
    """Read the path of a mask, or ``auto:scratches``.

    Raises:
        BadArgument: what is to be found is not known.
    """
    text = str(given)
    if text == AUTO_SCRATCHES:
        return text
    if text == "auto" or (text.startswith("auto:") and not Path(text).exists()):
        raise BadArgument(f"`mask`={text}: finds nothing; there is {AUTO_SCRATCHES}, or a file")

    return Path(text)


def _matches(operator: Operator) -> bool:
    from operators import Mask

    return isinstance(operator, Mask)


def known_pixels(operator: Operator) -> Tensor:
    """Return 1 where a mask lets a pixel through, else 0, [B or 1, 3, H, W]."""
    from operators import Mask

    assert isinstance(operator, Mask)
    return operator.singular_values.reshape(-1, *operator.input_shape)


def _condition(operator: Operator, measurement: Tensor) -> Condition | None:
    """Return the known pixels; None if a pixel is known in some channels only."""
    from restore.diffusion.denoiser import Condition

    known = known_pixels(operator)
    if not bool((known == known[:, :1]).all()):
        return None

    whole = known[:, :1].expand(len(measurement), -1, -1, -1)
    return Condition((2 * measurement - 1) * known, whole)


FILLING = Kind(
    "inpaint",
    method="ddrm",
    sampler="daps",
    unconditional="ddrm",
    matches=_matches,
    condition=_condition,
    fast="ddrm",
    sharpest="ddrm",
    mean_weights=(0.0, 0.1),
    fills_holes=True,
    predicted=True,
)


# How far a narrow hole's pixels are from a known one at most, in rows and columns, and the fraction
# of pixels that are known at least (docs/methods.md).
NARROW = 5
LEAST_KNOWN = 0.15

# Noise, in [0, 1] units, above which the method for narrow holes blurs too much.
MOST_NOISE = 0.06


def _matches_narrow(operator: Operator) -> bool:
    """Return True for masks with narrow holes alone, such as lines or scattered pixels."""
    from torch.nn.functional import max_pool2d

    if not _matches(operator):
        return False

    known = known_pixels(operator).amin(dim=1, keepdim=True).float()
    side = 2 * NARROW + 1
    near = max_pool2d(known, (side, 1), stride=1, padding=(NARROW, 0))
    near = max_pool2d(near, (1, side), stride=1, padding=(0, NARROW))
    fraction = known.mean(dim=(1, 2, 3)).amin()

    return bool(near.all()) and float(fraction) >= LEAST_KNOWN


NARROW_HOLES = replace(
    FILLING,
    title="narrow holes",
    matches=_matches_narrow,
    method="dpir",
    unconditional="dpir",
    fast="dpir",
)


@dataclass(frozen=True)
class Inpainting(Task):
    """Fill what a mask marks; without noise the known pixels come through untouched."""

    name: ClassVar[str] = "inpaint"
    title: ClassVar[str] = "Inpainting"
    about: ClassVar[str] = "Inpainting: fill what a mask marks; all other pixels stay unchanged."
    kind: ClassVar[Kind] = FILLING
    companion: ClassVar[str | None] = "mask"
    estimates_noise: ClassVar[bool] = False

    mask: Annotated[
        Picture | Path | str,
        Option(
            "Mask, white where to fill; or auto:scratches, which finds scratches and dust. For a "
            "folder: one mask for all, or a folder of masks, with the names of the pictures or "
            "NAME_mask. Default: NAME_mask.png beside each picture.",
            parse=parse_mask,
            kind=Path,
            beside=True,
            evaluated="Mask for inpaint: a picture (white = fill), a folder of them, random:0.5, "
            "strokes or box:64.",
        ),
    ]
    noise: Annotated[Noise, NOISE_OPTION] = field(default=0.0, kw_only=True)
    threshold: Annotated[
        float, Option("Brightness in [0, 1] above which a mask counts as white.")
    ] = field(default=0.5, kw_only=True)
    invert_mask: Annotated[
        bool,
        Option(
            "Fill what is black in the mask, not white.",
            evaluated="For inpaint: what is black in a mask is missing, not white.",
        ),
    ] = field(default=False, kw_only=True)
    fit_mask: Annotated[
        bool,
        Option(
            "Resize a mask of another size to that of IN, by nearest neighbour.",
            evaluated="For inpaint: resize masks of another size, by nearest neighbour.",
        ),
    ] = field(default=False, kw_only=True)
    dilate: Annotated[int, Option("Grow the mask by this many pixels.")] = field(
        default=0, kw_only=True
    )
    feather: Annotated[
        float,
        Option("Blend the fill with IN inside the mask, over this many pixels."),
    ] = field(default=0.0, kw_only=True)

    def check(self) -> None:
        super().check()
        if not 0 <= self.threshold < 1:
            raise BadArgument(f"`threshold`={self.threshold:g}: must be at least 0 and below 1")

        check_within("dilate", self.dilate, 0, MAX_RADIUS, " pixels")
        check_within("feather", self.feather, 0, MAX_RADIUS, " pixels")
        if isinstance(self.mask, str) and not self.finds_mask:
            raise BadArgument(f"`mask`={self.mask}: must be a picture, or {AUTO_SCRATCHES}")
        for name, default in _OF_GIVEN.items():
            if self.finds_mask and getattr(self, name) != default:
                raise BadArgument(f"`{name}`: is for a mask that is given, not {AUTO_SCRATCHES}")

    @classmethod
    def kinds(cls) -> tuple[Kind, ...]:
        return FILLING, NARROW_HOLES

    @classmethod
    def kind_of(cls, operator: Operator) -> Kind:
        return NARROW_HOLES if NARROW_HOLES.matches(operator) else FILLING

    @property
    def finds_mask(self) -> bool:
        return isinstance(self.mask, str) and self.mask == AUTO_SCRATCHES

    def given(self) -> dict[str, Any]:
        given = super().given()
        return {"mask": self.mask, **given} if self.finds_mask else given

    def missing_for(self, source: Path) -> str | None:
        if self.mask is None and str(source) == "-":
            return "Missing option `mask`: stdin brings the picture alone"
        return None

    def accompanied(self, path: Path, file: BinaryIO | None = None) -> Self:
        from restore.photo.photograph import read_mask

        return replace(self, mask=read_mask(path, self.threshold, file=file))

    def problem(self, image: Tensor, device: torch.device | str = "cpu") -> Problem:
        """State that ``image`` [B, 3, H, W] in [0, 1] is unknown where the mask is True."""
        self.check()
        if self.noise == "auto":
            raise BadArgument(
                "`noise`=auto: holes would count as noise; give a number, 0 if IN is clean"
            )

        if self.finds_mask:
            return self._found_problem(image, device)

        return self._stated(self._known(image), image, device)

    def _stated(self, known: Tensor, image: Tensor, device: torch.device | str) -> Problem:
        """State the problem for known pixels, bool [B or 1, 1, H, W]."""
        from operators import Mask
        from restore.diffusion.denoiser import Condition
        from restore.tasks.problem import Problem, measurement_noise

        weights = self._weights(known).to(device)
        known = known.to(device)
        image = image.to(device)
        level = measurement_noise(self.noise, image)
        if self.feather and bool(level.any()):
            raise BadArgument(
                f"`feather`={self.feather:g}: it blends with what IN shows, and its noise; leave "
                "it out, or `noise`=0"
            )

        operator = Mask((3, *image.shape[-2:]), known if len(known) > 1 else known[0]).to(device)
        kind = FILLING if float(level.max()) > MOST_NOISE else self.kind_of(operator)
        each = known.expand(len(image), -1, -1, -1).to(image)
        return Problem(
            self.name,
            kind,
            operator,
            image * known,
            level,
            Condition((2 * image - 1) * known, each),
            keep=weights * (level == 0).reshape(-1, 1, 1, 1),
            original=image,
        )

    def _found_problem(self, image: Tensor, device: torch.device | str) -> Problem:
        """State that ``image`` [1, 3, H, W] is unknown at its scratches and dust.

        Without any the problem is answered by the picture itself.
        """
        import torch

        from restore.blind.scratches import find_scratches

        if len(image) != 1:
            raise ValueError("scratches are found in one picture at a time")

        found = find_scratches(image[0].cpu().numpy())
        if found.mask is not None:
            known = replace(self, mask=found.mask)._known(image)
            problem = self._stated(known, image, device)
            return replace(problem, damage=replace(found, mask=~known[0, 0].numpy()))

        known = torch.ones(1, 1, *image.shape[-2:], dtype=torch.bool)
        problem = replace(self, feather=0.0, noise=0.0)._stated(known, image, device)
        return replace(problem, damage=found)

    def _known(self, image: Tensor) -> Tensor:
        """Return bool [B or 1, 1, H, W] on the CPU: True where a pixel is known.

        Raises:
            BadArgument: a mask of another size, without any pixel to fill, or without a known one.
        """
        import torch

        import operators

        mask = self._marked((image.shape[-2], image.shape[-1]))
        known = ~mask.cpu().reshape(-1, 1, *mask.shape[-2:])
        if len(known) not in (1, len(image)):
            raise BadArgument(
                f"{len(known)} masks for {len(image)} pictures: give one mask, or one for each "
                "picture"
            )
        if not self.dilate:
            return known

        with of_option("dilate"):
            grown = [
                operators.masks.from_picture(~one[0].numpy(), dilate=self.dilate) for one in known
            ]
        return torch.stack([one[None] for one in grown])

    def _marked(self, size: tuple[int, int]) -> Tensor:
        """Return True where to fill pictures of this (height, width), [H, W] or [B, 1, H, W].

        Raises:
            BadArgument: a mask of another size, without any pixel to fill, or without a known one.
        """
        filled, kept = ("black", "white") if self.invert_mask else ("white", "black")
        meaning = f"{filled} = fill{', by `invert_mask`' if self.invert_mask else ''}"
        mask = _white(self.mask, self.threshold, size) ^ self.invert_mask
        if self.fit_mask:
            mask = fitted(mask, size)

        if tuple(mask.shape[-2:]) != size:
            raise BadArgument(
                f"the mask is {mask.shape[-1]}x{mask.shape[-2]} pixels and the picture "
                f"{size[1]}x{size[0]}; they must be of the same size; `fit_mask` resizes the mask"
            )
        if bool(mask.all()):
            raise BadArgument(
                f"the mask is {filled} everywhere: no pixel of the picture would be known "
                f"({meaning})"
            )
        if not bool(mask.any()):
            raise BadArgument(
                f"the mask is {kept} everywhere: there is nothing to fill ({meaning})"
            )

        return mask

    def _weights(self, known: Tensor) -> Tensor:
        """Return the fraction of the original in the answer, [B or 1, 1, H, W]."""
        import operators

        return operators.masks.feather(known, self.feather) if self.feather else known.float()


def fitted(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a mask [..., h, w] in another (height, width), each pixel that whose middle is near.

    >>> import torch
    >>> fitted(torch.tensor([[True, False, False]]), (2, 6)).int().tolist()
    [[1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0]]
    """
    import torch

    rows, columns = (
        (2 * torch.arange(new) + 1) * old // (2 * new)
        for old, new in zip(mask.shape[-2:], size, strict=True)
    )
    return mask[..., rows[:, None], columns]


def _white(mask: Any, threshold: float, size: tuple[int, int]) -> Tensor:
    """Return bool [H, W] or [B, 1, H, W], True where a mask or a batch of masks tells to fill.

    Args:
        mask: a PIL image; an array or tensor [H, W], [H, W, C], [C, H, W] or [B, C, H, W], or bool
            [B, H, W]; see `operators.painting.to_fill`.
        threshold: see there.
        size: (height, width) of the picture, which tells channels from rows.

    Raises:
        BadArgument: it is no mask.
    """
    import numpy as np
    import torch

    from operators.painting import to_fill
    from restore.photo.pil import open_pil

    if hasattr(mask, "getbands"):
        mask = open_pil(mask)[0]
    is_tensor = isinstance(mask, torch.Tensor)
    if is_tensor:
        mask = mask.detach().cpu()
        mask = (mask.float() if mask.is_floating_point() else mask).numpy()
    if not isinstance(mask, np.ndarray):
        raise BadArgument(
            f"a mask is a PIL image, a numpy array or a torch tensor, not a {type(mask).__name__}"
        )

    with of_option("mask"):
        pictures = _pictures_of(mask, size, channels_first=is_tensor)
        found = [torch.from_numpy(to_fill(picture, threshold)) for picture in pictures]
    return found[0] if len(found) == 1 else torch.stack(found)[:, None]


def _pictures_of(
    mask: NDArray[Any], size: tuple[int, int], *, channels_first: bool
) -> list[NDArray[Any]]:
    """Return the pictures [H, W] or [H, W, C] of a mask or a batch of masks.

    Raises:
        ValueError: it has another number of axes.
    """
    import numpy as np

    if mask.ndim == 2:
        return [mask]
    if mask.ndim == 4:
        last = mask.shape[1:3] == size and mask.shape[3] <= 4 and not channels_first
        return list(mask if last else np.moveaxis(mask, 1, -1))
    if mask.ndim != 3:
        raise ValueError(f"it is a picture or a batch of pictures, not of shape {mask.shape}")

    leading = mask.shape[1:] == size
    trailing = mask.shape[:2] == size
    if leading != trailing:
        channels_first = leading
    if not channels_first:
        return [mask]

    # several maps are masks of several pictures, for want of another meaning
    return list(mask) if mask.dtype == np.bool_ else [np.moveaxis(mask, 0, -1)]
