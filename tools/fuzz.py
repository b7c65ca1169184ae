"""Feed damaged files to every reader, and count what does not end as an error of this package.

    python tools/fuzz.py                                  # 2,000 inputs of each kind
    python tools/fuzz.py --inputs 20000 --only masks      # the figures of docs/trust.md
    python tools/fuzz.py --list

An input is a sound file with bits flipped, bytes put in or taken out, numbers made large, parts of
another file in its middle or its end cut off, or bytes at random; hypothesis chooses. A reader may
return, or raise an error of this package. Anything else is a fault, and so is a run of more than
10 seconds, or 1 GB beyond the memory at the beginning. The damaged file is kept.
"""

from __future__ import annotations

import argparse
import io
import logging
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
LONGEST_SECONDS = 10.0
MOST_MEGABYTES = 1000.0

# Pixels that a reader may decode; a limit of the caller, as ``--max-pixels`` is.
MAX_PIXELS = 10**6

# Numbers that break arithmetic, big- and little-endian.
NUMBERS = [b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0"]
# Pieces that break texts.
TEXTS = [b"[" * 3000, b"{", b'"', b"9" * 5000, b"1e999", b"nan", b"\xff\xfe", b"\\ud800", b"\0"]


@dataclass(frozen=True)
class Reader:
    """A reader and sound inputs for it.

    Attributes:
        read: reads a file; gets its path.
        corpus: makes sound inputs, each with the suffix of its file.
        is_text: True for texts, into which pieces of syntax are put.
        slowness: one input where other readers get so many: this one starts a process for each.
    """

    read: Callable[[Path], object]
    corpus: Callable[[], list[tuple[str, bytes]]]
    is_text: bool = False
    slowness: int = 1


@dataclass
class Tally:
    """What became of the inputs of a reader."""

    read: int = 0
    refused: int = 0
    slowest: float = 0.0
    megabytes: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def inputs(self) -> int:
        return self.read + self.refused + len(self.faults)

    def __str__(self) -> str:
        return (
            f"{self.inputs:,} | {self.read:,} | {self.refused:,} | {len(self.faults)} | "
            f"{self.slowest:.2f} | {self.megabytes:.0f}"
        )


# Sound files


@cache
def picture(mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 4), dtype=np.uint8)
    return Image.fromarray(pixels, "RGBA").convert(mode)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pictures() -> list[tuple[str, bytes]]:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    said: dict[str, Any] = {"exif": exif.tobytes()}
    deep = Image.fromarray(np.arange(120, dtype=np.uint16).reshape(12, 10) * 500)
    second = [picture("RGB").rotate(90, expand=False)]
    return [
        (".png", saved(picture("RGBA"), "PNG", **said)),
        (".png", saved(picture("P"), "PNG")),
        (".png", saved(deep, "PNG")),
        (".jpg", saved(picture("RGB"), "JPEG", quality=70, **said)),
        (".jpg", saved(picture("CMYK"), "JPEG", progressive=True)),
        (".tif", saved(picture("RGB"), "TIFF", compression="tiff_lzw")),
        (".tif", saved(picture("L"), "TIFF", save_all=True, append_images=second)),
        (".webp", saved(picture("RGBA"), "WEBP", **said)),
        (".bmp", saved(picture("RGB"), "BMP")),
        (".gif", saved(picture("P"), "GIF", save_all=True, append_images=second)),
        (".ppm", saved(picture("RGB"), "PPM")),
        (".jp2", saved(picture("RGB"), "JPEG2000")),
    ]


def masks() -> list[tuple[str, bytes]]:
    hole = np.zeros((12, 10), np.uint8)
    hole[3:7, 2:6] = 255
    layer = np.dstack([hole, hole, hole, hole])
    return [
        (".png", saved(Image.fromarray(hole), "PNG")),
        (".png", saved(Image.fromarray(hole // 255), "PNG")),
        (".png", saved(Image.fromarray(hole).convert("1"), "PNG")),
        (".png", saved(Image.fromarray(layer, "RGBA"), "PNG")),
        (".jpg", saved(Image.fromarray(hole), "JPEG")),
        (".tif", saved(Image.fromarray(hole), "TIFF")),
    ]


def arrays(value: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(value))
    return file.getvalue()


KERNEL = np.outer([1, 2, 1], [1, 3, 1])


def kernels() -> list[tuple[str, bytes]]:
    return [
        (".npy", arrays(KERNEL.astype(np.float32))),
        (".png", saved(Image.fromarray(KERNEL.astype(np.uint8)), "PNG")),
    ]


def matlab_kernels() -> list[tuple[str, bytes]]:
    mat = io.BytesIO()
    scipy.io.savemat(mat, {"k": KERNEL, "n": 3}, do_compression=True)
    plain = io.BytesIO()
    scipy.io.savemat(plain, {"k": KERNEL.astype(float)})
    return [(".mat", mat.getvalue()), (".mat", plain.getvalue())]


def measurements() -> list[tuple[str, bytes]]:
    from restore.jobs.measurement import Measurement, encoded

    values = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    whole = encoded(Measurement(values, "down:bicubic:2+quantise:6", 0.05, (10, 8), 16))
    return [(".npz", whole), (".npy", arrays(values.numpy()))]


def clips() -> list[tuple[str, bytes]]:
    return [
        (suffix, clip(suffix, codec))
        for suffix, codec in ((".mp4", "libx264"), (".webm", "libvpx-vp9"), (".avi", "mpeg4"))
    ]


def clip(suffix: str, codec: str) -> bytes:
    """Encode a few frames that move."""
    import av

    frame = np.asarray(picture().resize((48, 32)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"clip{suffix}")
        with av.open(str(path), "w") as out:
            stream: Any = out.add_stream(codec, rate=24)
            stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
            for index in range(8):
                moved = np.ascontiguousarray(np.roll(frame, 3 * index, axis=1))
                out.mux(stream.encode(av.VideoFrame.from_ndarray(moved, "rgb24")))
            out.mux(stream.encode(None))
        return path.read_bytes()


def manifests() -> list[tuple[str, bytes]]:
    """The manifest of a folder that was restored."""
    from restore.jobs.manifest_files import NAME

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        for index in range(2):
            picture().save(folder / "in" / f"p{index}.png")
        code = run(["denoise", str(folder / "in"), str(folder / "out"), "--noise", "0.1"])
        assert code == 0
        return [(".jsonl", (folder / "out" / NAME).read_bytes())]


def recipes() -> list[tuple[str, bytes]]:
    from restore.training.recipe import Recipe
    from restore.training.recipe_file import write_recipe

    shipped = (ROOT / "pretrained" / "weights").glob("*.toml")
    return [
        (".toml", write_recipe(Recipe()).encode()),
        *((".toml", path.read_bytes()) for path in sorted(shipped)),
    ]


def configurations() -> list[tuple[str, bytes]]:
    text = 'seed = 3\noverwrite = true\n[sr]\nscale = 2.5\nkernel = "area"\n[deblur]\n'
    return [(".toml", (text + 'kernel = "motion:9:30"\nnoise = 0.02\n').encode())]


def operator_texts() -> list[tuple[str, bytes]]:
    texts = [
        "blur:gaussian:2+down:bicubic:4x2",
        'blur:file:"my:kernel.png":boundary=unknown',
        "mask:random:0.5:seed=3+jpeg:30",
        "mix:1,0,0/0,0.5,0.5+quantise:3",
        "blur:motion:15:30:boundary=circular+gray",
    ]
    return [(".txt", text.encode()) for text in texts]


def models() -> list[tuple[str, bytes]]:
    """Tiny networks: as this package writes them, and as a pickle."""
    from restore.backbone import BackboneConfig, build_backbone
    from restore.diffusion.denoiser import ModelConfig
    from restore.training.checkpoint import write_model

    backbone = BackboneConfig(
        channels=32, channel_multipliers=(1,), blocks=1, middle_attention=False
    )
    config = ModelConfig(backbone, {"name": "linear"})
    state = build_backbone(backbone).state_dict()
    with tempfile.TemporaryDirectory() as name:
        path = write_model(config, state, Path(name) / "m.safetensors")
        description = path.with_suffix(".json").read_bytes()
        few = {key: state[key] for key in list(state)[:3]}
        torch.save(few, Path(name) / "m.pt")
        return [
            (".safetensors", path.read_bytes()),
            (".json", description),
            (".pt", (Path(name) / "m.pt").read_bytes()),
        ]


# Readers


def run(words: Sequence[str]) -> int:
    """Run the command in this process."""
    sys.path.insert(0, str(ROOT))
    import cli

    return cli.exit_code(list(words))


def read_picture(path: Path) -> object:
    from restore.errors import UnreadableInput
    from restore.photo.photograph import read_photo

    try:
        return read_photo(path, max_pixels=MAX_PIXELS)
    except UnreadableInput:  # it may have pages
        return read_photo(path, page=1, max_pixels=MAX_PIXELS)


def read_mask(path: Path) -> object:
    from restore.photo import photograph

    return photograph.read_mask(path)


def read_kernel(path: Path) -> object:
    import operators

    return operators.kernels.from_file(path)


def read_measurement(path: Path) -> object:
    from restore.jobs import measurement

    return measurement.read_measurement(path)


def read_clip(path: Path) -> object:
    """Look at all frames of a clip, in a process as commands do; one for all, until it crashes."""
    reader = projector()
    reader.path = path
    try:
        return reader.look()
    finally:
        if not reader.is_running:
            projector.cache_clear()


@cache
def projector() -> Any:
    from restore.film.apart import Projector
    from restore.film.clip import Limits

    return Projector(Path(), "the clip", Limits(MAX_PIXELS))


def read_manifest(path: Path) -> object:
    from restore.jobs.manifest import Manifest
    from restore.jobs.manifest_files import NAME

    path.rename(path.with_name(NAME))
    manifest = Manifest(path.parent)
    path.with_name(NAME).unlink()
    return manifest


def read_recipe(path: Path) -> object:
    from restore.training import recipe_file

    return recipe_file.read_recipe(path)


@cache
def commands() -> Any:
    from typer.main import get_command

    from restore.commands.app import app
    from restore.commands.options import _configurable

    return _configurable(get_command(app))


def read_configuration(path: Path) -> object:
    from restore.commands.config import read_options

    return read_options(path, "sr", commands())


def read_operator(path: Path) -> object:
    import operators

    text = path.read_bytes().decode("utf-8", "replace")
    return operators.parse(text)


def read_model(path: Path) -> object:
    """Read weights beside a sound description, or a description beside sound weights."""
    from restore.restorer import load_denoiser

    weights, description, _ = (data for _, data in corpus_of("models"))
    if path.suffix == ".json":
        path.with_suffix(".safetensors").write_bytes(weights)
    else:
        path.with_suffix(".json").write_bytes(description)
    try:
        weights_path = path if path.suffix == ".pt" else path.with_suffix(".safetensors")
        return load_denoiser(str(weights_path), torch.device("cpu"), torch.float32)
    finally:
        for suffix in (".json", ".safetensors"):
            path.with_suffix(suffix).unlink(missing_ok=True)


READERS = {
    "pictures": Reader(read_picture, pictures),
    "masks": Reader(read_mask, masks),
    "kernels": Reader(read_kernel, kernels),
    "MATLAB kernels": Reader(read_kernel, matlab_kernels, slowness=20),
    "measurements": Reader(read_measurement, measurements),
    "clips": Reader(read_clip, clips, slowness=4),
    "manifests": Reader(read_manifest, manifests, is_text=True),
    "recipes": Reader(read_recipe, recipes, is_text=True),
    "configurations": Reader(read_configuration, configurations, is_text=True),
    "operator texts": Reader(read_operator, operator_texts, is_text=True),
    "models": Reader(read_model, models),
}


@cache
def corpus_of(kind: str) -> list[tuple[str, bytes]]:
    return READERS[kind].corpus()


# Damage


@st.composite
def damaged(draw: st.DrawFn, kind: str) -> tuple[str, bytes]:
    """Draw a suffix and a damaged file."""
    corpus = corpus_of(kind)
    suffix, sound = draw(st.sampled_from(corpus))
    if draw(st.integers(0, 49)) == 0:
        return suffix, draw(st.binary(max_size=200))

    data = bytearray(sound)
    heads = st.integers(0, min(len(data), 600) - 1)
    places = heads | st.integers(0, len(data) - 1)
    for place in draw(st.lists(places, max_size=6)):
        data[place % len(data)] ^= 1 << draw(st.integers(0, 7))
    pieces = TEXTS if READERS[kind].is_text else NUMBERS
    for place in draw(st.lists(places, max_size=2)):
        data[place : place + draw(st.sampled_from([0, 4]))] = draw(st.sampled_from(pieces))
    if draw(st.integers(0, 7)) == 0:
        _, other = draw(st.sampled_from(corpus))
        start = draw(st.integers(0, len(other) - 1))
        place = draw(places)
        data[place:place] = other[start : start + draw(st.integers(1, 200))]

    return suffix, bytes(data[: draw(st.just(len(data)) | st.integers(0, len(data)))])


@contextmanager
def quietly() -> Iterator[None]:
    """Keep warnings of libraries away from the terminal."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1e6 if sys.platform == "darwin" else 1e3
    )


def fuzz(kind: str, inputs: int, number: int = 0, keep: Path | None = None) -> Tally:
    """Feed damaged files to a reader.

    Args:
        kind: key of `READERS`.
        inputs: number of inputs.
        number: random seed.
        keep: folder for inputs that reveal a fault.
    """
    from pretrained.errors import CheckpointError
    from restore.errors import RestoreError

    ours: tuple[type[Exception], ...] = (RestoreError, CheckpointError)
    if kind in ("kernels", "MATLAB kernels", "operator texts"):
        ours = (*ours, ValueError)  # the operators know no errors of their own
    reader = READERS[kind]
    tally = Tally()
    with tempfile.TemporaryDirectory() as name, quietly():
        for suffix, sound in corpus_of(kind):
            path = Path(name) / f"sound{suffix}"
            path.write_bytes(sound)
            if (kind, suffix) != ("models", ".pt"):  # a pickle without its description
                reader.read(path)
        before = peak_megabytes()

        def feed(case: tuple[str, bytes]) -> None:
            suffix, data = case
            path = Path(name) / f"damaged{suffix}"
            path.write_bytes(data)
            started = time.monotonic()
            fault = ""
            try:
                reader.read(path)
                tally.read += 1
            except ours:
                tally.refused += 1
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                fault = f"{type(error).__name__}: {error}"
            seconds = time.monotonic() - started
            megabytes = peak_megabytes() - before
            if not fault and seconds > LONGEST_SECONDS:
                fault = f"{seconds:.1f} s"
            if not fault and tally.megabytes <= MOST_MEGABYTES < megabytes:
                fault = f"{megabytes:.0f} MB"
            tally.slowest = max(tally.slowest, seconds)
            tally.megabytes = max(tally.megabytes, megabytes)
            if fault:
                tally.faults.append(f"{kind}{suffix}: {fault[:300]}")
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{kind}-{len(tally.faults)}{suffix}").write_bytes(data)

        checked = settings(
            max_examples=max(inputs // reader.slowness, 1),
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        seed(number)(checked(given(damaged(kind))(feed)))()

    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=2000, help="inputs of each kind")
    parser.add_argument("--only", nargs="+", choices=list(READERS), default=list(READERS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-faults"))
    parser.add_argument("--list", action="store_true", help="list the kinds and end")
    asked = parser.parse_args()
    if asked.list:
        print("\n".join(READERS))
        return

    print("| kind | inputs | read | refused | faults | slowest, s | MB more |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    faults: list[str] = []
    for kind in asked.only:
        tally = fuzz(kind, asked.inputs, asked.seed, asked.keep)
        print(f"| {kind} | {tally} |", flush=True)
        faults += tally.faults
    print(*faults, sep="\n", file=sys.stderr)
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
