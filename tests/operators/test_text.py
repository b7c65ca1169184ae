"""Degradations as text: read, printed back, built, and refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import operators
from operators import kernels, masks, parse
from operators.grammar import quoted, shown
from operators.text import _split, _unquoted
from operators.vocabulary import WORDS

SHAPE = (3, 48, 64)
NONLINEAR = ("jpeg", "quantise")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The files that the examples of the vocabulary name."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    Image.fromarray((255 * rng.random((5, 3))).astype(np.uint8)).save("k.png")
    Image.fromarray((rng.random(SHAPE[1:]) > 0.8).astype(np.uint8) * 255).save("m.png")
    np.save("k.npy", rng.random((4, 4)))
    scipy.io.savemat("k.mat", {"psf": rng.random((3, 3)), "other": rng.random((2, 2))})
    return tmp_path


def _example(name: str) -> str:
    return WORDS[name].example


@pytest.mark.parametrize("name", WORDS)
def test_every_word_builds_its_example(name: str, files) -> None:
    degradation = parse(_example(name))
    operator = degradation.operator(SHAPE)
    assert operator.input_shape == SHAPE
    x = torch.rand(1, *SHAPE)
    y = operator.A(x)
    assert tuple(y.shape[1:]) == operator.output_shape
    assert isinstance(operator, operators.NonlinearChain) == (name in NONLINEAR)
    assert degradation.measured_channels == operator.output_shape[0]
    assert parse(str(degradation)) == degradation
    if name in ("hadamard", "blocks", "fourier"):
        with pytest.raises(ValueError, match="--size"):
            degradation.operator_for(operator.output_shape)
    else:
        assert degradation.operator_for(operator.output_shape).input_shape == SHAPE


@pytest.mark.parametrize("name", WORDS)
def test_every_parameter_can_be_named_and_has_its_default(name: str, files) -> None:
    word = WORDS[name]
    part = parse(_example(name)).parts[0]
    named = word.name + "".join(
        f":{p.name}={v}" for p, v in zip(word.parameters, _texts(part), strict=True)
    )
    again = parse(named)
    assert again.parts[0].values == part.values
    assert parse(str(again)) == again
    for parameter in word.parameters:
        assert parameter.name in word.describe()
    assert word.usage.startswith(name)
    assert "\n" not in word.line


def _texts(part) -> list[str]:
    """Every value of a part as it is written."""
    return [shown(part.values[p.name]) for p in part.word.parameters]


WRITTEN = {
    "blur:gaussian:2.0": "blur:gaussian:2",
    "blur:gaussian:4:1:30": "blur:gaussian:4:1:30",
    " blur:gaussian:2 + down:bicubic:4 ": "blur:gaussian:2+down:bicubic:4",
    "mask:m.png": "mask:file:m.png",
    "mask:some/where": "mask:file:some/where",
    'blur:file:"a+b:c.png"': 'blur:file:"a+b:c.png"',
    'blur:file:"say ""hi"""': 'blur:file:"say ""hi"""',
    "down:area:1.50x2": "down:area:1.5x2",
    "gray:0.2,0.7,0.1": "gray:0.2,0.7,0.1",
    "mask:random:0.5:seed=3": "mask:random:0.5:seed=3",
    "ddrm-reference:sr_bicubic:4:cut=no": "ddrm-reference:sr_bicubic:4:cut=no",
    "jpeg:30:chroma=444": "jpeg:30:chroma=444",
    "blur:motion:5:1.234567891234e5": "blur:motion:5:123456.7891234",
    "blur:gaussian:0.1000000000000001": "blur:gaussian:0.1000000000000001",
}


@pytest.mark.parametrize(("text", "printed"), WRITTEN.items())
def test_prints_back_what_it_read(text: str, printed: str) -> None:
    assert str(parse(text)) == printed
    assert parse(printed) == parse(text)


@given(st.text(min_size=1, max_size=12))
@settings(deadline=None, max_examples=200)
def test_any_path_survives_quoting(path: str) -> None:
    assert _unquoted(quoted(path)) == path
    assert _split(f"{quoted(path)}:x", ":") == [quoted(path), "x"]
    assert parse(f"blur:file:{quoted(path)}+gray").parts[0].values["path"] == path


@given(st.text(alphabet='blur:gaussianmk.+="0123x,/-', max_size=25))
@settings(deadline=None, max_examples=300)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        degradation = parse(text)
    except ValueError:
        return
    assert parse(str(degradation)) == degradation


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("identity", lambda: operators.identity(SHAPE)),
        ("blur:gaussian:2", lambda: operators.gaussian_blur(SHAPE, 2.0)),
        (
            "blur:gaussian:2:boundary=mirror",
            lambda: operators.gaussian_blur(SHAPE, 2.0, boundary="mirror"),
        ),
        ("blur:gaussian:2:2", lambda: operators.gaussian_blur(SHAPE, 2.0)),
        (
            "blur:gaussian:3:1:30:circular",
            lambda: operators.CircularConvolution(SHAPE, kernels.gaussian(3, 1, 30)),
        ),
        ("blur:box:5x3", lambda: operators.convolution(SHAPE, kernels.box((3, 5)), "symmetric")),
        (
            "blur:motion:15:30:circular",
            lambda: operators.CircularConvolution(SHAPE, kernels.motion(15, 30)),
        ),
        (
            "blur:shake:15:seed=4",
            lambda: operators.convolution(SHAPE, kernels.curved_motion(15, 4), "symmetric"),
        ),
        ("blur:disk:3", lambda: operators.SymmetricConvolution(SHAPE, kernels.disk(3))),
        (
            "blur:disk:3:boundary=unknown",
            lambda: operators.ValidConvolution((3, 42, 58), kernels.disk(3)),
        ),
        (
            "blur:file:k.npy",
            lambda: operators.convolution(SHAPE, kernels.from_file("k.npy"), "symmetric"),
        ),
        (
            "blur:file:k.mat:variable=psf:boundary=zero",
            lambda: operators.convolution(
                SHAPE, kernels.from_file("k.mat", variable="psf"), "zero"
            ),
        ),
        ("down:lanczos:4x2", lambda: operators.downsample(SHAPE, (2.0, 4.0), kernel="lanczos")),
        (
            "mask:m.png:0.3:dilate=1",
            lambda: operators.Mask(SHAPE, masks.from_file("m.png", threshold=0.3, dilate=1)),
        ),
        ("mask:box:20x10", lambda: operators.Mask(SHAPE, masks.box(SHAPE[1:], 10, 20))),
        (
            "mask:random:0.3:seed=2",
            lambda: operators.Mask(SHAPE, masks.random_pixels(SHAPE[1:], 0.3, 2)),
        ),
        ("gray", lambda: operators.gray(SHAPE)),
        ("mix:1,0,0/0,0.5,0.5", lambda: operators.color_mix(SHAPE, [[1, 0, 0], [0, 0.5, 0.5]])),
        ("bayer:GRBG", lambda: operators.Bayer(SHAPE, "GRBG")),
        ("xtrans", lambda: operators.XTrans(SHAPE)),
        ("cfa:RG/GB", lambda: operators.ColorFilterArray(SHAPE, ["RG", "GB"])),
        ("hadamard:0.25:seed=1", lambda: operators.Hadamard(SHAPE, 0.25, seed=1)),
        (
            "fourier:0.3:lines:seed=2",
            lambda: operators.SampledFourier(SHAPE, 0.3, pattern="lines", seed=2),
        ),
        ("blocks:0.5:block=16", lambda: operators.BlockSensing(SHAPE, 0.5, block=16)),
        ("jpeg:30", lambda: operators.Jpeg(30)),
        ("quantise:3", lambda: operators.Quantise(3)),
        (
            "ddrm-reference:deblur_uni:cut=no",
            lambda: operators.ddrm_reference("deblur_uni", SHAPE, cut=False),
        ),
        ("ddrm-reference:sr_bicubic:4", lambda: operators.ddrm_reference("sr_bicubic:4", SHAPE)),
        (
            "blur:gaussian:1+down:bicubic:2+gray",
            lambda: (
                operators.gray((3, 24, 32))
                @ operators.downsample(SHAPE, 2)
                @ operators.gaussian_blur(SHAPE, 1.0)
            ),
        ),
        (
            "blur:disk:2+mask:random:0.5",
            lambda: (
                operators.Mask(SHAPE, masks.random_pixels(SHAPE[1:], 0.5, 0))
                @ operators.SymmetricConvolution(SHAPE, kernels.disk(2))
            ),
        ),
    ],
)
def test_is_the_operator_that_python_makes(text: str, expected, files) -> None:
    operator = parse(text).operator(SHAPE)
    reference = expected()
    x = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(operator.A(x), reference.A(x), rtol=0, atol=1e-5)
    assert operator.has_svd == reference.has_svd


def test_blur_then_down_keeps_its_svd_and_others_say_so() -> None:
    assert parse("blur:gaussian:2+down:bicubic:4+gray").operator(SHAPE).has_svd
    assert parse("ddrm-reference:deblur_uni+down:area:2").operator(SHAPE).has_svd
    assert not parse("blur:gaussian:2+mask:random:0.5").operator(SHAPE).has_svd


@pytest.mark.parametrize("factor", ["1", "1.01", "1.5", "2", "3.7", "4x1.3"])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 5), (13, 11)], ids=str)
def test_a_measurement_of_any_size_has_its_picture(factor: str, size: tuple[int, int]) -> None:
    operator = parse(f"down:bicubic:{factor}").operator_for((3, *size))
    assert operator.output_shape == (3, *size)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("+", "part 1 of 2, '': nothing"),
        ("gray+", "part 2 of 2"),
        ("blurr:gaussian:2", "did you mean 'blur'"),
        ("blur", "what kind of blur? kinds are gaussian, box"),
        ("blur:gausian:2", "did you mean 'gaussian'"),
        (
            "blur:gaussian",
            "sigma is missing, a standard deviation in pixels; written as blur:gaussian:SIGMA",
        ),
        ("blur:gaussian:", "sigma is a standard deviation in pixels, not ''"),
        ("blur:gaussian:x", "not a number"),
        ("blur:gaussian:0", "must be above 0"),
        ("blur:gaussian:-2", "must be above 0"),
        ("blur:gaussian:inf", "not finite"),
        ("blur:gaussian:nan", "not finite"),
        ("blur:gaussian:2:bondary=zero", "did you mean 'boundary'"),
        (
            "blur:gaussian:2:boundary=reflect",
            "known are zero, symmetric, mirror, replicate, circular, unknown",
        ),
        ("blur:gaussian:sigma=2:1", "'1' must come before the parameters with names"),
        ("blur:gaussian:2:sigma=2", "sigma is given twice"),
        ("blur:box:2.5", "must be a whole number"),
        ("blur:box:1x2x3", "two joined by x"),
        ("blur:motion:3:up", "angle in degrees"),
        ("blur:file:", "no path"),
        ('blur:file:"k.png', "not closed"),
        ("down:bicubic:0", "must be at least 1"),
        ("down:bicubic:0.5", "must be at least 1"),
        ("down:cubic:2", "kinds are bicubic, area, lanczos"),
        ("down:area:2:2", "'2' is one too many; written as down:area:FACTOR"),
        ("mask:randm:0.5", "did you mean 'random'"),
        ("mask:random:0", "must be above 0"),
        ("mask:random:1.5", "must be at most 1"),
        ("mask:m.png:2", "must be at most 1"),
        ("mask:m.png:dilate=-1", "must be at least 0"),
        ("mask:lines:1", "must be at least 2"),
        ("gray:1,2", "must be 3"),
        ("mix:1,2/1", "rows of different lengths"),
        ("bayer:XXXX", "known are RGGB"),
        ("cfa:RX/GB", "rows of R, G and B"),
        ("hadamard:2", "must be at most 1"),
        ("fourier:0", "must be above 0"),
        ("fourier:0.5:spiral", "known are random, lines, radial"),
        ("quantise:17", "must be at most 16"),
        ("jpeg:0", "must be at least 1"),
        ("jpeg:30:chroma=422", "known are 420, 444"),
        ("ddrm-reference:deblur", "did you mean 'deblur_uni'"),
        ("ddrm-reference:sr_bicubic", "factor is missing"),
        ("ddrm-reference:deblur_uni:cut=maybe", "known are yes, no"),
        ("blur:gaussian:2+down:bicubc:4", "part 2 of 2, 'down:bicubc:4': unknown kind 'bicubc'"),
    ],
)
def test_refuses_and_points_at_the_part(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("down:bicubic:49", "the factor 49 leaves no whole pixel of a picture 48 pixels high"),
        ("down:area:65x2", "no whole pixel of a picture 64 pixels wide"),
        ("gray+down:area:2+gray", "in 'gray': 3 weights for pictures of 1 channel"),
        ("blur:disk:40", "in 'blur:disk:40': the kernel of 81x81 pixels"),
        ("blur:motion:50:90", "1x51 pixels (width x height) is larger than the picture of 64x48"),
        ("blur:gaussian:30", "larger than the picture"),
        ("blur:gaussian:30:boundary=unknown", "larger than the picture"),
        ("blur:box:200", "larger than the picture"),
        ("blur:disk:1e5", "too large"),
        ("mask:box:60", "does not fit"),
        ("mask:border:24", "leaves no pixel"),
        ("mask:small.png", "the mask is 4x3 pixels and the picture 64x48"),
        ("mask:black.png", "black everywhere"),
        ("mask:white.png", "leaves no pixel"),
        ("mask:k.npy", "not a picture"),
        ("blocks:0.5:block=65", "1 to 64"),
        ("blur:file:zero.npy", "must not be all zero"),
        ("blur:file:negative.npy", "positive sum"),
        ("blur:file:nan.npy", "finite"),
        ("blur:file:large.npy", "larger than the picture"),
        ("blur:file:color.png", "3 that differ"),
        ("blur:file:k.mat", "other, psf"),
        ("blur:file:text.png", "not a kernel"),
        ("gray+bayer", "in 'bayer': a Bayer mosaic is made of 3 channels"),
        ("ddrm-reference:sr_bicubic:5", "multiples of 5"),
    ],
)
def test_refuses_what_does_not_fit_the_picture(text: str, said: str, files) -> None:
    rng = np.random.default_rng(0)
    for name, array in {
        "zero": np.zeros((3, 3)),
        "negative": -np.ones((3, 3)),
        "nan": np.array([[1.0, np.nan]]),
        "large": np.ones((3, 99)),
    }.items():
        np.save(f"{name}.npy", array)
    Image.fromarray((255 * rng.random((3, 3, 3))).astype(np.uint8)).save("color.png")
    Image.fromarray(np.eye(3, 4, dtype=np.uint8) * 255).save("small.png")
    Image.new("L", (64, 48), 0).save("black.png")
    Image.new("L", (64, 48), 255).save("white.png")
    (files / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match=re.escape(said)):
        parse(text).operator(SHAPE)


@pytest.mark.parametrize("text", ["mask:nosuch.png", "blur:file:nosuch.npy", "blur:file:."])
def test_a_missing_file_is_named(text: str, files) -> None:
    with pytest.raises(OSError, match=re.escape(f"in {str(parse(text))!r}")) as caught:
        parse(text).operator(SHAPE)
    assert caught.value.filename is not None


def test_masks_from_files_of_every_mode(files) -> None:
    """White is lost, whatever the file's mode; EXIF orientation counts."""
    white = np.zeros((6, 4), bool)
    white[:2, :3] = True
    drawn = Image.fromarray(white.astype(np.uint8) * 255)
    for mode in ("1", "L", "RGB", "RGBA", "P", "LA", "CMYK"):
        name = "m.tif" if mode == "CMYK" else "m.png"
        drawn.convert("RGB").convert(mode).save(name)
        assert torch.equal(masks.from_file(name), torch.from_numpy(~white)), mode
    Image.fromarray(white.astype(np.uint16) * 65535).save("m.png")
    assert torch.equal(masks.from_file("m.png"), torch.from_numpy(~white))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    drawn.save("m.png", exif=exif)
    assert torch.equal(masks.from_file("m.png"), torch.from_numpy(~white).flip(0, 1))
