"""`restore export`: ONNX files that do what the one-step methods do, for pictures of any size."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from support.networks import light, random_file, tiny
from support.pictures import piece

import pretrained
from operators.resample import resample_matrix
from restore import Restorer
from restore.backbone import mirror_to_multiple
from restore.diffusion.denoiser import Denoiser, ModelConfig, joined_state
from restore.export import onnx_file, run
from restore.export.graphs import Denoising, Enlargement, mirrored
from restore.export.order import Order
from restore.export.run import export_to
from restore.restorer import load_denoiser
from restore.training.checkpoint import write_model

CPU = torch.device("cpu")

# Heights and widths: below, at and above what the network divides, and of one pixel.
SIZES = [(17, 23), (1, 9), (40, 24), (5, 1), (8, 8)]


@pytest.fixture(autouse=True)
def _in_float32(monkeypatch) -> None:
    """As the files compute, also where `Restorer` would take bfloat16."""
    monkeypatch.setattr("restore.restorer.network_dtype", lambda _: torch.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def model(folder) -> Path:
    """A file with the smallest networks of the default model's kind."""
    config = ModelConfig.from_dict(pretrained.load("default").config)
    small = light(config, levels=1, blocks=0)  # an export takes 0.1 s for each operation
    path = folder / "small.safetensors"
    state = joined_state(small.network.state_dict(), small.predictor.network.state_dict())
    return write_model(small.config, state, path)


@pytest.fixture(scope="module")
def small(model) -> Denoiser:
    return load_denoiser(str(model), CPU, torch.float32)


@pytest.fixture(scope="module")
def enlarging(folder, model) -> run.Exported:
    return export_to(folder / "large.onnx", Order("sr", str(model), 2))


@pytest.fixture(scope="module")
def denoising(folder, model) -> run.Exported:
    return export_to(folder / "clean.onnx", Order("denoise", str(model)))


def test_a_picture_is_mirrored_as_in_a_backbone():
    for size in SIZES:
        picture = torch.rand(1, 3, *size)
        assert_array_equal(mirrored(picture, 8), mirror_to_multiple(picture, 8))


def test_the_pseudo_inverse_is_that_of_the_downsampling(small):
    """By an SVD in double precision."""
    graph = Enlargement(small.predictor, 3)
    for size in (1, 2, 7, 40):
        matrix = resample_matrix(3 * size, size)
        assert_allclose(graph._downsampling(size), matrix, atol=1e-6)
        found = graph._pseudo_inverse(torch.from_numpy(matrix).float())
        assert_allclose(found, np.linalg.pinv(matrix), atol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 8])
def test_an_enlargement_is_that_of_the_one_step_method(small, model, scale):
    restorer = Restorer(str(model), device="cpu")
    graph = Enlargement(small.predictor, scale)
    for size in SIZES[:3]:
        expected = restorer.sr(_picture(size), scale, method="one-step")
        assert_allclose(_result(graph, size), expected, atol=5e-5)


def test_a_predictor_may_see_the_inverse(small, model):
    predictor = small.predictor
    inverse = replace(predictor.config, shown="inverse")
    restorer = Restorer(str(model), device="cpu")
    restorer.denoiser.predictor.config = inverse
    predictor = type(predictor)(predictor.network, inverse)

    expected = restorer.sr(_picture((17, 23)), 2, method="one-step")
    assert_allclose(_result(Enlargement(predictor, 2), (17, 23)), expected, atol=5e-5)


@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_a_denoising_is_that_of_the_one_step_method(small, model, noise):
    expected = Restorer(str(model), device="cpu").denoise(
        _picture((17, 23)), noise=noise, method="one-step", parameters={"views": 1}
    )
    assert_allclose(_result(Denoising(small, noise), (17, 23)), expected, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_a_file_enlarges_pictures_of_any_size(enlarging, small, size):
    found = _outcome(enlarging.path, size)
    assert found.shape == (2 * size[0], 2 * size[1], 3)
    assert_allclose(found, _result(Enlargement(small.predictor, 2), size), atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_a_file_denoises_pictures_of_any_size_at_any_level(denoising, small, size):
    for noise in (0.02, 0.3):
        found = _outcome(denoising.path, size, noise)
        assert_allclose(found, _result(Denoising(small, noise), size), atol=1e-5)


def test_a_file_says_what_it_is(enlarging, denoising, model):
    file = onnx.load(enlarging.path)
    onnx.checker.check_model(file, full_check=True)
    about = {prop.key: prop.value for prop in file.metadata_props}
    assert about["task"] == "sr"
    assert about["scale"] == "2"
    assert about["range"] == "0 to 1"
    assert about["license"] == "not stated; ask whoever made the weights"
    assert about["weights_sha256"] == pretrained.digest(str(model))
    assert about["version"].startswith("restore ")
    assert _shape(file.graph.input[0]) == [1, 3, "height", "width"]
    assert _shape(file.graph.output[0]) == [1, 3, "2*height", "2*width"]
    assert [one.name for one in onnx.load(denoising.path).graph.input] == ["input", "noise"]


def test_a_file_has_no_paths_of_the_machine_that_made_it(enlarging):
    content = enlarging.path.read_bytes()
    assert b".py" not in content
    assert str(Path.home()).encode() not in content


def test_a_card_explains_the_file(enlarging, denoising):
    text = enlarging.card.read_text()
    for part in (
        "large.onnx",
        "0 to 1",
        "×2",
        "Grey pictures",
        "model_x2.onnx",
        '"task": "upscale"',
    ):
        assert part in text
    assert f"differ by at most {enlarging.difference:.1e}" in text
    assert "`noise` | float32 `[1]`" in denoising.card.read_text()


def test_weights_in_float16_change_nothing(denoising, folder):
    """As the checkpoint's own weights have no more digits."""
    file = onnx.load(denoising.path)
    onnx_file.halve(file)
    path = folder / "half.onnx"
    path.write_bytes(file.SerializeToString())

    large = [
        weights
        for weights in file.graph.initializer
        if np.prod(weights.dims) >= onnx_file.LEAST_HALVED
    ]
    assert len(large) > 5
    assert all(weights.data_type == onnx.TensorProto.FLOAT16 for weights in large)
    expected = _outcome(denoising.path, (17, 23), 0.1)
    assert_allclose(_outcome(path, (17, 23), 0.1), expected, atol=1e-6)


def test_the_command_writes_the_file_and_its_card(command, enlarging, model, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "converted", lambda *_: onnx.load(enlarging.path))
    monkeypatch.chdir(tmp_path)
    words = ["export", "--task", "sr", "--scale", 2, "--to", "onnx", "--model", model]
    outcome = command(*words)

    assert outcome.code == 0
    assert outcome.out == "small-sr-x2.onnx\n"
    assert "differ by at most" in outcome.err
    assert_array_equal(_outcome(Path("small-sr-x2.onnx"), (9, 9)), _outcome(enlarging.path, (9, 9)))
    assert Path("small-sr-x2.md").is_file()

    again = command(*words)
    assert again.code == 5
    assert "small-sr-x2.onnx: exists already; pass --overwrite to replace it" in again.err
    assert command(*words, "--overwrite").code == 0


def test_a_file_that_differs_is_not_written(enlarging, model, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "converted", lambda *_: onnx.load(enlarging.path))
    monkeypatch.setattr(onnx_file, "difference", lambda *_: 0.01)
    with pytest.raises(run.RestoreError, match=r"differ from PyTorch's by 1\.0e-02"):
        export_to(tmp_path / "out.onnx", Order("sr", str(model), 2))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--task sr --scale 2.5", "--scale 2.5: must be a whole number from 2 to 8"),
        ("--task sr --scale 16", "--scale 16: must be a whole number from 2 to 8"),
        ("--task sr --noise 0.1", "--noise 0.1: is an option of --task denoise"),
        ("--task sr --class 3", "--class 3: is an option of --task denoise"),
        ("--task denoise --scale 2", "--scale 2: is an option of --task sr"),
        ("--task denoise --noise 0", "--noise 0: must be above 0 and at most 1"),
        ("--task inpaint", "--task inpaint: only sr and denoise are one call of a network"),
        ("--task sr --to ncnn", "--to ncnn: unknown format; use onnx"),
        ("--task sr out.pt", "out.pt: an ONNX file must end with .onnx"),
        ("", "Missing option '--task'"),
    ],
)
def test_what_cannot_be_is_refused(command, words, said):
    outcome = command("export", *words.split())
    assert outcome.code == 1
    assert said in outcome.err


def test_models_that_cannot_are_refused(command, tmp_path):
    plain = random_file(tmp_path / "plain.safetensors", tiny())
    fixed = random_file(tmp_path / "fixed.safetensors", tiny(size=16))
    out = tmp_path / "out.onnx"

    outcome = command("export", out, "--task", "sr", "--model", plain)
    assert outcome.code == 1
    assert "has no predictor, the network that enlarges in one call" in outcome.err

    outcome = command("export", out, "--task", "denoise", "--model", fixed)
    assert outcome.code == 1
    assert "knows pictures of 16 pixels alone" in outcome.err
    assert not out.exists()


def test_a_missing_package_is_named(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    outcome = command("export", "--task", "sr", "out.onnx")
    assert outcome.code == 3
    assert "restore export needs the package onnxscript" in outcome.err
    assert "pip install 'restore-diffusion[onnx]'" in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize(("task", "scale"), [("sr", 4), ("denoise", None)])
def test_the_shipped_model(tmp_path, task, scale):
    done = export_to(tmp_path / "out.onnx", Order(task, factor=scale))
    restorer = Restorer(device="cpu")
    size = (33, 47)
    if task == "sr":
        expected = restorer.sr(_picture(size), scale, method="one-step")
        found = _outcome(done.path, size)
    else:
        expected = restorer.denoise(_picture(size), noise=0.1)
        found = _outcome(done.path, size, 0.1)
    assert_allclose(found, expected, atol=1e-5)


def _picture(size: tuple[int, int]) -> np.ndarray:
    """A piece of a photograph, float32 [H, W, 3] in [0, 1]."""
    return np.asarray(piece(size[::-1]), dtype=np.float32) / 255


def _result(graph: torch.nn.Module, size: tuple[int, int]) -> np.ndarray:
    """What a module makes of a picture in PyTorch, [H, W, 3]."""
    with torch.inference_mode():
        made = graph(torch.from_numpy(_picture(size)).movedim(-1, 0)[None])
    return made[0].movedim(0, -1).numpy()


def _outcome(path: Path, size: tuple[int, int], noise: float | None = None) -> np.ndarray:
    """What a file makes of a picture in ONNX Runtime, [H, W, 3]."""
    session = onnxruntime.InferenceSession(path)
    fed = {"input": _picture(size).transpose(2, 0, 1)[None]}
    if noise is not None:
        fed["noise"] = np.array([noise], np.float32)
    return session.run(["output"], fed)[0][0].transpose(1, 2, 0)


def _shape(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
