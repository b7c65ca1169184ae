"""`restore evaluate --generated --reference`: how far a set of pictures is from another one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restore.errors import BadArgument, FileAccess, NothingToDo, RestoreError, SomeFailed
from restore.evaluate.protocol import EightBit, middle, to_eight_bit
from restore.evaluate.result import Outputs
from restore.files import write_atomically
from restore.jobs.walk import pictures_in
from restore.messages import complain
from restore.metrics.distances import (
    Estimate,
    Neighbours,
    Statistics,
    frechet_distance,
    kernel_distance,
    neighbours,
)
from restore.metrics.features import ALEXNET, FeatureNetwork, load_features
from restore.photo.apart import decoding_apart
from restore.photo.photograph import SUFFIXES, read_photo
from restore.precision import single_precision
from restore.runtime.devices import choose_device
from restore.runtime.progress import Progress

# Smallest number of pictures of a set: density and coverage look at five neighbours.
FEWEST = 6
# Most pixels in a call of the network.
PIXELS_AT_ONCE = 2**20

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sets:
    """Two sets of pictures, and how they are compared.

    Attributes:
        generated: folder of generated pictures.
        reference: folder of pictures that they should be like.
        features: as for `restore.metrics.features.load_features`.
        size: side of the centre crop; 0 takes whole pictures.
        count: number of pictures of each folder, the first by name; None is all.
        device: as for `restore.Restorer`.

    Raises:
        BadArgument: an invalid option.
    """

    generated: Path
    reference: Path
    features: str = ALEXNET
    size: int = 0
    count: int | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.size < 0:
            raise BadArgument(f"`size`={self.size}: must be at least 0")
        if self.count is not None and self.count < FEWEST:
            raise BadArgument(f"`count`={self.count}: must be at least {FEWEST}")
        if self.generated.resolve() == self.reference.resolve():
            raise BadArgument(f"`reference`={self.reference}: is the same folder as `generated`")


@dataclass(frozen=True)
class SetDistances:
    """What was measured.

    Attributes:
        network: name of the network of the features.
        sha256: SHA-256 of its file.
        dimensions: number of features of a picture.
        pictures: numbers of generated pictures and of the reference.
        size: width and height of the pictures.
        frechet: Fréchet distance.
        kid: kernel distance.
        neighbours: precision, recall, density and coverage.
    """

    network: str
    sha256: str
    dimensions: int
    pictures: tuple[int, int]
    size: tuple[int, int]
    frechet: float
    kid: Estimate
    neighbours: Neighbours

    def markdown(self) -> str:
        """Return the table, with what it was measured on."""
        near = self.neighbours
        width, height = self.size
        lines = [
            f"Features: {self.network} ({self.dimensions} numbers, {self.sha256[:12]}). "
            f"{self.pictures[0]} generated pictures and {self.pictures[1]} of the reference, "
            f"{width}x{height}.",
            "",
            "| Fréchet distance | KID × 1000 | precision | recall | density | coverage |",
            "|---:|---:|---:|---:|---:|---:|",
            f"| {self.frechet:.4g} | {1000 * self.kid.value:.4g} ± {1000 * self.kid.error:.2g} "
            f"| {near.precision:.3f} | {near.recall:.3f} | {near.density:.3f} "
            f"| {near.coverage:.3f} |",
        ]
        if min(self.pictures) <= self.dimensions:
            lines += [
                "",
                f"Of {min(self.pictures)} pictures and {self.dimensions} features, the Fréchet "
                "distance is too large by an amount that depends on the number of pictures: "
                "compare it between sets of equal size only.",
            ]
        return "\n".join(lines)

    def record(self) -> dict[str, Any]:
        """Return everything as an object of JSON."""
        return asdict(self) | {
            "kid": self.kid._asdict(),
            "neighbours": self.neighbours._asdict(),
        }


@single_precision()
def compare_sets(sets: Sets, *, quiet: bool = True) -> tuple[SetDistances, list[str]]:
    """Measure the distances of two folders.

    Args:
        sets: the folders, and how they are compared.
        quiet: True to show no progress on stderr.

    Returns:
        The distances, and the reasons why pictures were skipped.

    Raises:
        FileAccess: no such folder.
        NothingToDo: no picture in a folder.
        BadArgument: pictures of different sizes, or too few.
        Unavailable: no such device, or AlexNet's weights are missing.
        UnreadableInput: a file of features that is no network.
    """
    folders = (sets.generated, sets.reference)
    paths = [_paths(folder, name, sets.count) for folder, name in zip(folders, _NAMES, strict=True)]
    network = load_features(sets.features, choose_device(sets.device))
    skipped: list[str] = []
    sizes: dict[tuple[int, int], Path] = {}
    features = []

    with decoding_apart(), Progress(sum(map(len, paths)), quiet=quiet) as progress:
        for name, own in zip(_NAMES, paths, strict=True):
            pictures = _pictures(own, sets.size, network, skipped, sizes, progress)
            found = [network(batch) for batch in _batches(pictures)]
            features.append(_enough(found, name))

    generated, reference = features
    (size,) = sizes
    measured = SetDistances(
        network.name,
        network.sha256,
        generated.shape[1],
        (len(generated), len(reference)),
        size,
        frechet_distance(Statistics.of(generated), Statistics.of(reference)),
        kernel_distance(generated, reference),
        neighbours(generated, reference),
    )
    return measured, skipped


def command(
    sets: Sets, outputs: Outputs, *, quiet: bool = False, wording: Callable[[str], str] = str
) -> None:
    """Run `compare_sets` for the command line: print the table, then write the outputs.

    Raises:
        SomeFailed: a picture was skipped; after outputs are written.
        RestoreError: as `compare_sets`.
    """
    if outputs.report is not None:
        raise BadArgument(f"`report`={outputs.report}: not for sets of pictures; use `markdown`")

    outputs.check([])
    measured, skipped = compare_sets(sets, quiet=quiet)
    print(measured.markdown(), flush=True)

    if outputs.json is not None:
        text = json.dumps(measured.record(), indent=1, ensure_ascii=False) + "\n"
        write_atomically(text.encode(), outputs.json, outputs.overwrite)
    if outputs.markdown is not None:
        write_atomically((measured.markdown() + "\n").encode(), outputs.markdown, outputs.overwrite)

    for reason in skipped:
        complain(f"{wording(reason)} (skipped)")
    if skipped:
        raise SomeFailed(f"{len(skipped)} pictures were skipped")


_NAMES = ("generated", "reference")


def _paths(folder: Path, name: str, count: int | None) -> list[Path]:
    if not folder.is_dir():
        raise FileAccess(f"`{name}`={folder}: no such folder")

    paths = sorted(pictures_in(folder, SUFFIXES))
    if not paths:
        raise NothingToDo(f"`{name}`={folder}: no picture in this folder")
    return paths[:count]


def _pictures(
    paths: list[Path],
    size: int,
    network: FeatureNetwork,
    skipped: list[str],
    sizes: dict[tuple[int, int], Path],
    progress: Progress,
) -> Iterator[EightBit]:
    """Yield pictures [H, W, 3], all of one size; note those that cannot be read.

    Raises:
        BadArgument: a picture of another size, or one that is too small.
    """
    for path in paths:
        progress.picture(path.name)
        try:
            pixels = to_eight_bit(read_photo(path).pixels)
        except RestoreError as error:
            skipped.append(str(error))
            continue

        if size > min(pixels.shape[:2]):
            raise BadArgument(
                f"{path}: {pixels.shape[1]}x{pixels.shape[0]} pixels, smaller than `size`={size}"
            )
        if size:
            pixels = middle(pixels, size, size)

        height, width = pixels.shape[:2]
        if min(height, width) < network.smallest:
            raise BadArgument(
                f"{path}: {width}x{height} pixels, too small: {network.smallest} are needed each "
                "way"
            )
        sizes.setdefault((width, height), path)
        if len(sizes) > 1:
            first = next(iter(sizes.items()))
            raise BadArgument(
                f"{path}: {width}x{height} pixels, and {first[1]} has "
                f"{first[0][0]}x{first[0][1]}; features of different sizes do not compare; `size` "
                "takes the centre of each picture"
            )
        yield np.broadcast_to(pixels, (height, width, 3))


def _batches(pictures: Iterator[EightBit]) -> Iterator[torch.Tensor]:
    """Yield pictures as uint8 [N, 3, H, W], several at once."""
    waiting: list[torch.Tensor] = []
    for pixels in pictures:
        waiting.append(torch.from_numpy(np.array(pixels)).permute(2, 0, 1))
        if (len(waiting) + 1) * waiting[0][0].numel() > PIXELS_AT_ONCE:
            yield torch.stack(waiting)
            waiting = []
    if waiting:
        yield torch.stack(waiting)


def _enough(features: list[Array], name: str) -> Array:
    """Join the features of a set.

    Raises:
        BadArgument: too few pictures.
    """
    count = sum(map(len, features))
    if count < FEWEST:
        raise BadArgument(f"`{name}`: {count} readable pictures, at least {FEWEST} are needed")
    return np.concatenate(features)
