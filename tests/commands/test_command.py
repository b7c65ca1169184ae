"""The command on real files: outputs, formats, quality and messages."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms
from scipy.ndimage import gaussian_filter
from support.pictures import FIXTURES, files, piece, pixels_16bit
from support.processes import Forked

pytestmark = pytest.mark.usefixtures("light_network")

# Options of each task, without the mask.
NEEDED = {
    "sr": ["--scale", "2"],
    "inpaint": [],
    "deblur": ["--kernel", "box:2", "--boundary", "symmetric"],
    "denoise": ["--noise", "0.05"],
    "colorize": [],
}

TWO_STEPS = ["--steps", "2"]
# The same with few steps, for a fraction of a second on a small picture.
FAST = {task: [*options, *TWO_STEPS] for task, options in NEEDED.items()} | {
    "denoise": NEEDED["denoise"]
}

EVERY_METHOD = ("ddrm", "diffpir", "sr3", "one-step")
METHODS = [
    (task, method) for task in ("sr", "inpaint", "deblur", "denoise") for method in EVERY_METHOD
]
METHODS += [("colorize", method) for method in ("ddrm", "diffpir", "sr3", "one-step")]

# Width and height: one pixel, one row, one column, odd, prime, and a multiple of the network's.
ODD_SIZES = [(1, 1), (1, 17), (17, 1), (7, 3), (13, 21), (24, 16)]

JSON_KEYS = {
    *(
        "input",
        "status",
        "outputs",
        "width",
        "height",
        "task",
        "method",
        "steps",
        "samples",
        "seed",
        "noise",
    ),
    *("operator", "consistency", "seconds", "model", "device", "dtype"),
}


def pixels(path: Path) -> np.ndarray:
    """Read 8-bit values as integers wide enough for differences."""
    return np.asarray(Image.open(path)).astype(int)


def pixels_of_16bit(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., ::-1].astype(int)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Return the PSNR of 8-bit values in dB."""
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2)))


def write_mask(path: Path, size: tuple[int, int]) -> Path:
    """Return a mask that is white in its left half, or in the upper half of a column."""
    white = np.zeros(size[::-1], dtype=np.uint8)
    white[:, : size[0] // 2] = 255
    if size[0] == 1:
        white[: size[1] // 2] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(white).save(path)
    return path


# --- every task, method and size
# ----------------------------------------------------------------------------


@pytest.mark.parametrize("task", FAST)
def test_restores_a_photograph(command, tmp_path, task):
    source = FIXTURES / "crop_a.png"
    target = tmp_path / "out.png"
    before = hashlib.sha256(source.read_bytes()).hexdigest()
    mask = ["--mask", write_mask(tmp_path / "mask.png", (128, 128))] if task == "inpaint" else []
    outcome = command(task, source, target, *FAST[task], *mask)
    assert outcome.code == 0, outcome.err
    assert str(target) in outcome.err
    assert outcome.out == ""
    side = 256 if task == "sr" else 128
    assert pixels(target).shape == (side, side, 3)
    assert hashlib.sha256(source.read_bytes()).hexdigest() == before


@pytest.mark.parametrize(("task", "method"), METHODS)
def test_any_size(command, picture, tmp_path, task, method):
    sizes = [size for size in ODD_SIZES if task != "inpaint" or size != (1, 1)]
    for width, height in sizes:
        picture(f"in/{width}x{height}.png", size=(width, height))
        write_mask(tmp_path / f"masks/{width}x{height}.png", (width, height))
    options = NEEDED[task] if method == "one-step" else [*NEEDED[task], *TWO_STEPS]
    mask = ["--mask", tmp_path / "masks"] if task == "inpaint" else []
    outcome = command(task, tmp_path / "in", tmp_path / "out", "--method", method, *options, *mask)
    assert outcome.code == 0, outcome.err
    for width, height in sizes:
        factor = 2 if task == "sr" else 1
        assert pixels(tmp_path / f"out/{width}x{height}.png").shape == (
            height * factor,
            width * factor,
            3,
        )


@pytest.mark.parametrize("scale", [1.5, 2, 2.5, 3, 4, 8, 16])
def test_scale(command, picture, tmp_path, scale):
    target = tmp_path / "out.png"
    assert command("sr", picture(size=(13, 9)), target, "--scale", scale, *TWO_STEPS).code == 0
    width, height = Image.open(target).size
    assert abs(width - 13 * scale) <= 0.5
    assert abs(height - 9 * scale) <= 0.5


@pytest.mark.parametrize("kernel", ["bicubic", "area", "lanczos"])
@pytest.mark.parametrize("method", ["ddrm", "sr3", "one-step"])
@pytest.mark.shipped_network
def test_sr_explains_its_input_by_the_named_kernel(command, tmp_path, kernel, method):
    """Pillow's own filters, applied to the result, reproduce the input."""
    filters = {"bicubic": Image.BICUBIC, "area": Image.BOX, "lanczos": Image.LANCZOS}
    source = tmp_path / "small.png"
    piece((96, 64), "b").resize((48, 32), filters[kernel]).save(source)
    options = ["--kernel", kernel, "--method", method, *([] if method == "one-step" else TWO_STEPS)]
    assert command("sr", source, tmp_path / "out.png", "--scale", 2, *options).code == 0
    again = Image.open(tmp_path / "out.png").resize((48, 32), filters[kernel])
    difference = np.asarray(again).astype(float) - pixels(source)
    assert np.sqrt(np.mean(difference**2)) < 1


# --- where it writes
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", FAST)
def test_default_name(command, picture, tmp_path, task):
    source = picture("my.photo.png")
    mask = ["--mask", write_mask(tmp_path / "masks/m.png", (24, 16))] if task == "inpaint" else []
    assert command(task, source, *FAST[task], *mask).code == 0
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == [
        f"my.photo-{task}.png",
        "my.photo.png",
    ]
    result = pixels(tmp_path / f"my.photo-{task}.png")
    factor = 2 if task == "sr" else 1
    assert result.shape == (16 * factor, 24 * factor, 3)
    assert np.ptp(result) > 50
    assert task == "sr" or not np.array_equal(result, pixels(source))


def test_default_name_of_a_folder(command, picture, tmp_path):
    picture("photos/a.png")
    assert command("denoise", tmp_path / "photos").code == 0
    assert sorted(files(tmp_path)) == ["photos-denoise/a.png", "photos/a.png"]


def test_default_name_of_the_present_folder(command, picture, tmp_path, monkeypatch):
    monkeypatch.chdir(picture("photos/sub/a.png").parent)
    assert command("denoise", ".").code == 0
    assert command("denoise", "..").code == 0
    assert sorted(files(tmp_path)) == [
        *("photos-denoise/sub-denoise/a.png", "photos-denoise/sub/a.png"),
        *("photos/sub-denoise/a.png", "photos/sub/a.png"),
    ]


def test_default_name_of_a_picture_without_a_known_suffix(command, picture, tmp_path):
    source = picture("photo.png").rename(tmp_path / "photo")
    assert command("denoise", source).code == 0
    assert sorted(files(tmp_path)) == ["photo", "photo-denoise.png"]


def test_into_an_existing_folder(command, picture, tmp_path):
    (tmp_path / "out").mkdir()
    assert command("denoise", picture(), tmp_path / "out").code == 0
    assert (
        command("denoise", picture("other.png").rename(tmp_path / "other"), tmp_path / "out").code
        == 0
    )
    assert sorted(files(tmp_path)) == ["in.png", "other", "out/in.png", "out/other.png"]


def test_output_option_and_new_folders(command, picture, tmp_path):
    target = tmp_path / "new" / "deeper" / "result.tif"
    assert command("denoise", picture(), "--output", target).code == 0
    assert Image.open(target).format == "TIFF"


def test_never_replaces_unless_told(command, picture, tmp_path):
    source = picture()
    target = picture("out.png", crop="b")
    before = target.read_bytes()
    outcome = command("denoise", source, target)
    assert outcome.code == 5
    assert str(target) in outcome.err
    assert "--overwrite" in outcome.err
    assert target.read_bytes() == before
    assert command("denoise", source, target, "--overwrite").code == 0
    assert target.read_bytes() != before


def test_a_sample_file_in_the_way_is_not_replaced(command, picture, tmp_path):
    source = picture()
    sample = picture("out.sample2.png", crop="b")
    before = files(tmp_path)
    outcome = command("sr", source, tmp_path / "out.png", "--samples", 2, "--steps", 2)
    assert outcome.code == 5
    assert str(sample) in outcome.err
    assert files(tmp_path) == before


# --- random numbers
# -----------------------------------------------------------------------------------------


def test_seed_decides_the_picture(command, picture, tmp_path):
    source = picture()
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        options = ["--method", "ddrm", "--steps", 3, "--scale", 2, "--seed", seed]
        assert command("sr", source, tmp_path / f"{name}.png", *options).code == 0
    a, b, c = (files(tmp_path)[f"{name}.png"] for name in "abc")
    assert a == b
    assert a != c


def test_seed_is_of_each_picture_and_not_of_its_place(command, picture, tmp_path):
    """A picture of a folder is restored as it would be alone."""
    source = picture("in/b.png", crop="b")
    options = ["--steps", 2]
    assert command("colorize", source, tmp_path / "alone.png", *options).code == 0
    picture("in/a.png")
    assert command("colorize", tmp_path / "in", tmp_path / "out", *options).code == 0
    assert files(tmp_path)["out/b.png"] == files(tmp_path)["alone.png"]


def test_samples(command, picture, tmp_path):
    target = tmp_path / "out.png"
    outcome = command("sr", picture(), target, "--samples", 3, "--steps", 3, "--scale", 2, "--json")
    assert outcome.code == 0
    names = ["out.png", "out.sample1.png", "out.sample2.png", "out.sample3.png", "out.std.png"]
    assert sorted(files(tmp_path)) == ["in.png", *names]
    assert json.loads(outcome.out)["outputs"] == [str(tmp_path / name) for name in names]
    samples = np.stack([pixels(tmp_path / f"out.sample{k}.png") for k in (1, 2, 3)])
    spread = samples.std(axis=0, ddof=1)
    assert spread.mean() > 1
    assert np.abs(pixels(target) - samples.mean(axis=0)).max() <= 1
    # white is a standard deviation of 0.25; each sample was rounded to a level, which is four in
    # the map
    assert np.abs(pixels(tmp_path / "out.std.png") - np.minimum(spread * 4, 255)).max() <= 4


def test_fresh_noise_changes_the_result(command, picture, tmp_path):
    source = picture()
    for eta in (0, 1):
        options = ["--method", "ddrm", "--steps", 3, "--scale", 2, "--eta", eta]
        assert command("sr", source, tmp_path / f"{eta}.png", *options).code == 0
    assert files(tmp_path)["0.png"] != files(tmp_path)["1.png"]


# --- what it says
# -------------------------------------------------------------------------------------------


def test_json_is_all_there_is_on_stdout(command, picture, tmp_path):
    source = picture()
    outcome = command(
        "deblur", source, tmp_path / "o.png", "--kernel", "gaussian:1", "--steps", 3, "--json"
    )
    report = json.loads(outcome.out)
    assert report.keys() >= JSON_KEYS
    assert (report["input"], report["outputs"]) == (str(source), [str(tmp_path / "o.png")])
    assert (report["status"], report["task"], report["steps"]) == ("done", "deblur", 3)
    assert (report["width"], report["height"], report["samples"], report["seed"]) == (24, 16, 1, 0)
    assert report["seconds"] > 0
    assert 0 <= report["consistency"] < 1
    assert len(outcome.out.splitlines()) == 1


def test_json_of_a_folder_is_one_object_for_each_picture(command, picture, tmp_path):
    picture("in/good.png")
    (tmp_path / "in/bad.png").write_bytes(b"not a picture")
    outcome = command("denoise", tmp_path / "in", "--json")
    bad, good = map(json.loads, outcome.out.splitlines())
    assert outcome.code == 10
    assert bad.keys() == {"input", "status", "error"}
    assert (bad["status"], good["status"]) == ("failed", "done")
    assert "bad.png" in bad["error"]


@pytest.mark.shipped_network
def test_reports_the_noise_it_was_told_and_the_noise_it_finds(command, tmp_path):
    rng = np.random.default_rng(0)
    noisy = np.asarray(piece((64, 64), "b")) + 0.1 * 255 * rng.standard_normal((64, 64, 3))
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(tmp_path / "in.png")
    for option, noise, tolerance in (("auto", 0.1, 0.02), ("0.07", 0.07, 1e-6)):
        outcome = command(
            "denoise", tmp_path / "in.png", "--noise", option, "--json", "--overwrite"
        )
        assert json.loads(outcome.out)["noise"] == pytest.approx(noise, abs=tolerance)


def test_quiet(command, picture, tmp_path):
    for arguments in (
        [picture(), tmp_path / "a.png"],
        [picture("in/b.png").parent, tmp_path / "out"],
    ):
        outcome = command("denoise", *arguments, "--quiet")
        assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_a_process_keeps_stdout_for_json_and_ends_with_the_exit_code(
    picture, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    picture("in/photo.png")
    Path("in/text.png").write_text("hello")
    process = Forked("denoise", "in", "out", "--json")
    out, err = process.output()
    assert process.returncode == 10

    photo, text = map(json.loads, out.splitlines())
    assert photo["outputs"] == ["out/photo.png"]
    assert text["status"] == "failed"
    assert b"in/text.png: not a picture" in err
    assert b"Traceback" not in err


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([task, "--help"] for task in FAST)]
)
def test_help(command, arguments):
    outcome = command(*arguments)
    assert outcome.code == 0
    assert outcome.err == ""
    assert ("restore 0." if arguments == ["--version"] else "Usage: restore") in outcome.out
    assert "Traceback" not in outcome.out


def test_help_where_nothing_is_asked(command):
    outcome = command()
    assert "Usage: restore" in outcome.out + outcome.err
    assert "error" not in outcome.err


# --- formats
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "factor"), [("sr", 2), ("denoise", 1)])
class TestFormats:
    """The output keeps format, depth, channels and metadata of the input."""

    def restored(self, command, task, source: Path, target: Path | None = None) -> Path:
        target = target or source.with_name(f"out{source.suffix}")
        outcome = command(task, source, target, *FAST[task])
        assert outcome.code == 0, outcome.err
        return target

    def test_grey_stays_grey(self, command, picture, task, factor):
        im = Image.open(self.restored(command, task, picture(mode="L")))
        assert (im.mode, im.size) == ("L", (24 * factor, 16 * factor))

    def test_alpha_is_kept_and_enlarged(self, command, picture, task, factor):
        for mode in ("LA", "RGBA"):
            source = picture(f"{mode}.png", mode)
            im = Image.open(
                self.restored(command, task, source, source.with_name(f"{mode}-out.png"))
            )
            assert (im.mode, im.size) == (mode, (24 * factor, 16 * factor))
            alpha = np.asarray(im.getchannel("A")).astype(int)
            expected = np.asarray(
                Image.open(source).getchannel("A").resize(im.size, Image.BICUBIC)
            ).astype(int)
            assert np.abs(alpha - expected)[:, 2:-2].max() <= (3 if factor > 1 else 0)

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_16_bits_stay_16(self, command, picture, tmp_path, task, factor, suffix):
        source = picture(mode="RGB;16")
        target = self.restored(command, task, source, tmp_path / f"out{suffix}")
        raw = cv2.imread(str(target), cv2.IMREAD_UNCHANGED)
        assert raw.dtype == np.uint16
        assert raw.shape == (16 * factor, 24 * factor, 3)
        assert len(np.unique(raw)) > 256
        assert np.abs(raw[..., ::-1].mean() - pixels_16bit((24, 16)).mean()) < 655

    def test_16_bit_grey_stays_so(self, command, picture, task, factor):
        raw = cv2.imread(
            str(self.restored(command, task, picture(mode="I;16"))), cv2.IMREAD_UNCHANGED
        )
        assert (raw.dtype, raw.shape) == (np.uint16, (16 * factor, 24 * factor))

    def test_profile_is_kept(self, command, picture, task, factor):
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        im = Image.open(self.restored(command, task, picture(icc_profile=profile)))
        assert im.info["icc_profile"] == profile

    def test_jpeg_stays_jpeg_turned_upright(self, command, picture, task, factor):
        exif = Image.Exif()
        exif[0x0112], exif[0x0110] = 6, "a camera"
        im = Image.open(self.restored(command, task, picture("in.jpg", quality=90, exif=exif)))
        assert (im.format, im.size) == ("JPEG", (16 * factor, 24 * factor))
        assert im.getexif().get(0x0112, 1) == 1
        assert im.getexif()[0x0110] == "a camera"

    @pytest.mark.parametrize("mode", ["P", "1", "CMYK"])
    def test_other_modes(self, command, picture, tmp_path, task, factor, mode):
        source = picture("in.tif", mode)
        im = Image.open(self.restored(command, task, source, tmp_path / "out.png"))
        assert (im.mode, im.size) == ("L" if mode == "1" else "RGB", (24 * factor, 16 * factor))


# --- inpainting
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "RGB;16"])
def test_inpaint_leaves_known_pixels_alone(command, picture, tmp_path, mode):
    source = picture(mode=mode)
    mask = write_mask(tmp_path / "mask.png", (24, 16))
    target = tmp_path / "out.png"
    assert command("inpaint", source, target, "--mask", mask, "--steps", 3).code == 0
    read = pixels_of_16bit if mode == "RGB;16" else pixels
    before = read(source)
    after = read(target)
    assert np.array_equal(before[:, 12:], after[:, 12:])
    colors = -1 if mode == "RGBA" else None
    changed = before[:, :12] != after[:, :12]
    assert changed[..., :colors].mean() > 0.5
    if mode == "RGBA":
        assert np.array_equal(before[..., 3], after[..., 3])


@pytest.mark.parametrize("method", ["ddrm", "sr3", "one-step"])
def test_inpaint_does_not_look_below_the_mask(command, tmp_path, method):
    """The pixels under the mask do not matter, as they are unknown."""
    hidden = np.array(piece())
    mask = write_mask(tmp_path / "mask.png", (24, 16))
    options = ["--mask", mask, "--method", method, *([] if method == "one-step" else TWO_STEPS)]
    for name, value in (("black", 0), ("white", 255)):
        hidden[:, :12] = value
        Image.fromarray(hidden).save(tmp_path / f"{name}.png")
        target = tmp_path / f"{name}-out.png"
        assert command("inpaint", tmp_path / f"{name}.png", target, *options).code == 0
    assert files(tmp_path)["black-out.png"] == files(tmp_path)["white-out.png"]


def test_masks_of_a_folder_by_place_and_stem(command, picture, tmp_path):
    """Masks are found by place and stem, in any format."""
    picture("in/a.png")
    picture("in/sub/a.jpg", quality=95)
    write_mask(tmp_path / "masks/a.bmp", (24, 16))
    right = write_mask(tmp_path / "masks/sub/a.png", (24, 16))
    Image.fromarray(255 - np.asarray(Image.open(right))).save(right)
    outcome = command(
        "inpaint", tmp_path / "in", tmp_path / "out", "--mask", tmp_path / "masks", "--steps", 2
    )
    assert outcome.code == 0, outcome.err
    top, below = (
        np.abs(pixels(tmp_path / "in" / n) - pixels(tmp_path / "out" / n))
        for n in ("a.png", "sub/a.jpg")
    )
    assert top[:, 12:].max() == 0
    assert top[:, :12].mean() > 5
    assert below[:, 16:].mean() > 10
    assert below[:, :8].mean() < 5  # known, but JPEG leaves nothing exactly as it was


def test_one_mask_for_a_folder(command, picture, tmp_path):
    mask = write_mask(tmp_path / "mask.png", (24, 16))
    for name in ("a", "b"):
        picture(f"in/{name}.png", crop=name)
    assert (
        command("inpaint", tmp_path / "in", tmp_path / "out", "--mask", mask, "--steps", 2).code
        == 0
    )
    for name in ("a.png", "b.png"):
        difference = np.abs(pixels(tmp_path / "in" / name) - pixels(tmp_path / "out" / name))
        assert difference[:, 12:].max() == 0
        assert difference[:, :12].mean() > 5


# --- folders
# ------------------------------------------------------------------------------------------------


def test_folder_is_mirrored_and_resumed(command, picture, tmp_path):
    names = ["a.png", "sub/a.png", "sub/deep er/b.jpg"]
    for name in names:
        picture(f"in/{name}")
    (tmp_path / "in/notes.txt").write_text("not a picture")
    (tmp_path / "in/.hidden.png").write_text("not a picture")
    before = files(tmp_path / "in")
    source = tmp_path / "in"
    target = tmp_path / "out"

    assert command("denoise", source, target).code == 0
    assert sorted(files(target)) == names
    first = files(target)

    outcome = command("denoise", source, target)
    assert outcome.code == 6
    assert "--overwrite" in outcome.err
    assert files(target) == first

    (target / "sub/a.png").unlink()
    (target / "a.png").write_bytes(b"kept as it is")
    outcome = command("denoise", source, target, "--json")
    assert outcome.code == 0
    assert "2 done before" in outcome.err
    assert [json.loads(line)["input"] for line in outcome.out.splitlines()] == [
        str(source / "sub/a.png")
    ]
    assert files(target)["a.png"] == b"kept as it is"
    assert files(target)["sub/a.png"] == first["sub/a.png"]

    assert command("denoise", source, target, "--overwrite").code == 0
    assert files(target) == first
    assert files(source) == before


@pytest.mark.parametrize("bad", [b"", b"\x89PNG\r\n\x1a\nrubbish", b"text"])
def test_one_broken_file_does_not_end_the_run(command, picture, tmp_path, bad):
    picture("in/a.png")
    picture("in/c.png", crop="b")
    (tmp_path / "in/b.png").write_bytes(bad)
    outcome = command("denoise", tmp_path / "in", tmp_path / "out")
    assert outcome.code == 10
    assert "b.png" in outcome.err
    assert "1 of 3" in outcome.err
    assert "Traceback" not in outcome.err
    assert sorted(files(tmp_path / "out")) == ["a.png", "c.png"]


def test_a_mask_that_fits_only_some_pictures(command, picture, tmp_path):
    """The error names the picture that the mask does not fit."""
    mask = write_mask(tmp_path / "mask.png", (24, 16))
    picture("in/z.png")
    odd = picture("in/odd.png", size=(20, 16))
    outcome = command("inpaint", tmp_path / "in", tmp_path / "out", "--mask", mask, *TWO_STEPS)
    assert outcome.code == 10
    assert f"{odd}: the mask is 24x16" in outcome.err
    assert sorted(files(tmp_path / "out")) == ["z.png"]


def test_output_inside_the_input_is_not_walked(command, picture, tmp_path):
    picture("in/a.png")
    target = tmp_path / "in/restored"
    assert command("denoise", tmp_path / "in", target).code == 0
    assert command("denoise", tmp_path / "in", target).code == 6
    assert sorted(files(tmp_path)) == ["in/a.png", "in/restored/a.png"]


def test_a_broken_sample_set_of_a_folder_is_not_taken_for_done(command, picture, tmp_path):
    """The target is written last, so that it stands for all outputs."""
    picture("in/a.png")
    blocker = picture("out/a.sample2.png", crop="b")
    before = blocker.read_bytes()
    options = ["--samples", 2, "--steps", 2]
    outcome = command("colorize", tmp_path / "in", tmp_path / "out", *options)
    assert outcome.code in (5, 10)
    assert sorted(files(tmp_path / "out")) == ["a.sample2.png"]
    assert blocker.read_bytes() == before
    blocker.unlink()
    assert command("colorize", tmp_path / "in", tmp_path / "out", *options).code == 0
    assert sorted(files(tmp_path / "out")) == [
        "a.png",
        "a.sample1.png",
        "a.sample2.png",
        "a.std.png",
    ]


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_a_folder_onto_itself_is_refused(command, picture, tmp_path, overwrite):
    picture("in/a.png")
    before = files(tmp_path)
    outcome = command("denoise", tmp_path / "in", tmp_path / "in", *overwrite)
    assert outcome.code == 5
    assert str(tmp_path / "in") in outcome.err
    assert files(tmp_path) == before


def test_masks_are_never_overwritten(command, picture, tmp_path):
    picture("in/a.png")
    mask = write_mask(tmp_path / "masks/a.png", (24, 16))
    before = mask.read_bytes()
    outcome = command(
        "inpaint", tmp_path / "in", mask.parent, "--mask", mask.parent, "--steps", 2, "--overwrite"
    )
    assert outcome.code == 5
    assert mask.read_bytes() == before


# --- how well
# -----------------------------------------------------------------------------------------------
# Bounds lie a little below what the shipped model reached when they were set.


def degraded(tmp_path: Path, values: np.ndarray) -> Path:
    path = tmp_path / "degraded.png"
    Image.fromarray(np.rint(values.clip(0, 255)).astype(np.uint8)).save(path)
    return path


@pytest.mark.parametrize("crop", ["a", "b"])
@pytest.mark.parametrize("noise", ["0.1", "auto"])
@pytest.mark.shipped_network
def test_denoising_gains_5_db(command, tmp_path, crop, noise):
    clean = np.asarray(piece((96, 96), crop))
    source = degraded(
        tmp_path, clean + 25.5 * np.random.default_rng(0).standard_normal(clean.shape)
    )
    assert command("denoise", source, tmp_path / "out.png", "--noise", noise).code == 0
    assert psnr(pixels(tmp_path / "out.png"), clean) > psnr(pixels(source), clean) + 5


@pytest.mark.parametrize("crop", ["a", "b"])
@pytest.mark.shipped_network
def test_deblurring_gains_one_and_a_half_db(command, tmp_path, crop):
    clean = np.asarray(piece((64, 64), crop)).astype(float)
    noise = 2.55 * np.random.default_rng(0).standard_normal(clean.shape)
    source = degraded(tmp_path, gaussian_filter(clean, (1.6, 1.6, 0), mode="reflect") + noise)
    options = ["--kernel", "gaussian:1.6", "--noise", "0.01"]
    assert command("deblur", source, tmp_path / "out.png", *options).code == 0
    assert psnr(pixels(tmp_path / "out.png"), clean) > psnr(pixels(source), clean) + 1.5


@pytest.mark.parametrize(
    ("crop", "method", "gain"),
    [("a", "one-step", 0.8), ("b", "one-step", 0.8), ("a", "auto", -0.1)],
)
@pytest.mark.shipped_network
def test_super_resolution_against_bicubic(command, tmp_path, crop, method, gain):
    """One step has the best PSNR; sampling pays for its detail with a little PSNR."""
    clean = piece((96, 96), crop)
    small = clean.resize((48, 48), Image.BICUBIC)
    small.save(tmp_path / "small.png")
    arguments = [tmp_path / "small.png", tmp_path / "out.png", "--scale", 2, "--method", method]
    assert command("sr", *arguments).code == 0
    bicubic = np.asarray(small.resize((96, 96), Image.BICUBIC))
    assert (
        psnr(pixels(tmp_path / "out.png"), np.asarray(clean))
        > psnr(bicubic, np.asarray(clean)) + gain
    )


@pytest.mark.parametrize("crop", ["a", "b"])
@pytest.mark.shipped_network
def test_inpainting_of_scattered_holes_passes_20_db(command, tmp_path, crop):
    clean = np.asarray(piece((64, 64), crop))
    hole = np.random.default_rng(0).random((64, 64)) < 0.3
    source = degraded(tmp_path, np.where(hole[..., None], 0, clean))
    Image.fromarray(hole).save(tmp_path / "mask.png")
    assert (
        command("inpaint", source, tmp_path / "out.png", "--mask", tmp_path / "mask.png").code == 0
    )
    assert psnr(pixels(tmp_path / "out.png")[hole], clean[hole]) > 20


@pytest.mark.shipped_network
def test_colourising_keeps_the_luma_and_adds_colour(command, picture, tmp_path):
    source = picture(mode="L", size=(48, 48), crop="b")
    target = tmp_path / "out.png"
    assert command("colorize", source, target, "--steps", 3).code == 0
    luma = np.asarray(Image.open(target).convert("L")).astype(float)
    assert np.sqrt(np.mean((luma - pixels(source)) ** 2)) < 2
    assert pixels(target).std(axis=2).mean() > 2


# --- when things go wrong inside
# ----------------------------------------------------------------------------


def test_interrupt_leaves_nothing(command, picture, tmp_path, monkeypatch):
    from restore.diffusion.denoiser import Denoiser

    calls = []
    real = Denoiser.__call__

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, *arguments)

    monkeypatch.setattr(Denoiser, "__call__", interrupted)
    source = picture()
    before = files(tmp_path)
    outcome = command("colorize", source, tmp_path / "out.png", "--steps", 4)
    assert outcome.code == 130
    assert "interrupted" in outcome.err
    assert "Traceback" not in outcome.err
    assert files(tmp_path) == before
    assert len(calls) == 2


def test_interrupt_ends_a_folder_too(command, picture, tmp_path, monkeypatch):
    from restore.diffusion.denoiser import Denoiser

    def interrupted(self, *arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(Denoiser, "__call__", interrupted)
    for name in ("a", "b"):
        picture(f"in/{name}.png")
    assert command("denoise", tmp_path / "in", tmp_path / "out").code == 130
    assert not files(tmp_path).keys() - {"in/a.png", "in/b.png"}


@pytest.mark.parametrize(
    ("task", "value"),
    [
        *((task, "nan") for task in FAST),
        *((task, "inf") for task in ("sr", "inpaint", "colorize")),
        *(("denoise", value) for value in ("inf", "-inf")),
    ],
)
def test_output_of_the_network_that_is_not_finite(
    command, picture, tmp_path, monkeypatch, task, value
):
    import torch

    from restore.diffusion.denoiser import Denoiser, Prediction

    def broken(self, x, *arguments):
        return Prediction(torch.full_like(x, float(value)), torch.full_like(x, float(value)))

    monkeypatch.setattr(Denoiser, "__call__", broken)
    source = picture()
    mask = ["--mask", write_mask(tmp_path / "mask.png", (24, 16))] if task == "inpaint" else []
    before = files(tmp_path)
    outcome = command(task, source, tmp_path / "out.png", *FAST[task], *mask)
    assert outcome.code == 15
    assert "not finite" in outcome.err
    assert "Traceback" not in outcome.err
    assert files(tmp_path) == before


def test_debug_shows_the_traceback(command, picture, tmp_path):
    outcome = command("denoise", picture(), tmp_path / "out.png", "--noise", 3, "--debug")
    assert outcome.code == 1
    assert "Traceback" in outcome.err


def test_a_set_of_samples_that_cannot_be_written_whole_leaves_nothing(
    command, picture, tmp_path, monkeypatch
):
    import restore.jobs.staging

    real = restore.jobs.staging.put_in_place
    tried = []

    def fails_on_the_target(temporary, path, replace):
        tried.append(path.name)
        if path.name == "out.png":
            raise OSError(28, "No space left on device")
        real(temporary, path, replace=replace)

    monkeypatch.setattr(restore.jobs.staging, "put_in_place", fails_on_the_target)
    source = picture()
    outcome = command(
        "sr", source, tmp_path / "out.png", "--samples", 2, "--steps", 2, "--scale", 2
    )
    assert outcome.code != 0
    assert sorted(tried) == ["out.png", "out.sample1.png", "out.sample2.png", "out.std.png"]
    assert sorted(files(tmp_path)) == ["in.png"]


def test_disk_full(command, picture, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    source = picture()
    outcome = command("denoise", source, tmp_path / "new" / "out.png")
    assert outcome.code == 5
    assert "No space left" in outcome.err
    assert sorted(files(tmp_path)) == ["in.png"]


def test_out_of_memory(command, picture, tmp_path, monkeypatch):
    from restore.diffusion.denoiser import Denoiser

    def hungry(self, *arguments):
        raise MemoryError

    monkeypatch.setattr(Denoiser, "__call__", hungry)
    source = picture()
    outcome = command("denoise", source, tmp_path / "out.png")
    assert outcome.code == 15
    assert "memory" in outcome.err
    assert sorted(files(tmp_path)) == ["in.png"]


@pytest.mark.shipped_network
def test_doubts_a_kernel_that_does_not_explain_the_input(command, picture, tmp_path):
    sharp = picture(size=(64, 64))
    outcome = command(
        "deblur",
        sharp,
        tmp_path / "out.png",
        "--kernel",
        "gaussian:3",
        "--noise",
        "0.01",
        "--steps",
        "4",
    )
    assert outcome.code == 0
    assert "does not explain the input" in outcome.err
    assert pixels(tmp_path / "out.png").shape == pixels(sharp).shape

    outcome = command("sr", sharp, tmp_path / "large.png", "--scale", "2", "--steps", "2")
    assert outcome.code == 0
    assert "does not explain" not in outcome.err
    again = np.asarray(Image.open(tmp_path / "large.png").resize(Image.open(sharp).size))
    assert psnr(again, pixels(sharp)) > 35
