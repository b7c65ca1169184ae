"""Networks of others through spandrel: the same pictures as spandrel gives, in the ways that our
own take.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from support.pictures import files, piece
from torch import Tensor, nn

import operators
import restore
from restore.errors import BadArgument, RestoreError, Unavailable
from restore.evaluate import Settings, evaluate
from restore.jobs.picture import Work
from restore.jobs.ray_engine import _elsewhere
from restore.methods import feed_forward
from restore.methods.feed_forward import FeedForward, check_file
from restore.methods.options import Options
from restore.metrics.quality import consistency
from restore.restorer import Restorer
from restore.tasks import TASKS, Deblurring, SuperResolution

spandrel = pytest.importorskip(
    "spandrel", reason="spandrel is an extra: pip install 'restore-diffusion[spandrel]'"
)
from spandrel.architectures.DnCNN import DnCNN  # noqa: E402
from spandrel.architectures.ESRGAN import ESRGAN  # noqa: E402

HOST = torch.device("cpu")


def _enlarging(scale: int = 4) -> nn.Module:
    torch.manual_seed(0)
    network = ESRGAN(num_filters=8, num_blocks=1, scale=scale)
    with torch.no_grad():
        list(network.parameters())[-1].fill_(
            0.5
        )  # a picture in the middle of the range, not clipped
    return network


def _restoring(channels: int = 3) -> nn.Module:
    torch.manual_seed(1)
    return DnCNN(in_nc=channels, out_nc=channels, nc=8, nb=8, act_mode="R")


def _saved(network: nn.Module, path: Path) -> str:
    """The state dict in a file; the method that it stands for."""
    state = network.state_dict()
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return f"spandrel:{path}"


@pytest.fixture
def enlarging(tmp_path) -> str:
    return _saved(_enlarging(), tmp_path / "x4.pth")


@pytest.fixture
def restoring(tmp_path) -> str:
    return _saved(_restoring(), tmp_path / "dn.safetensors")


def _tensor(size: tuple[int, int] = (24, 16)) -> Tensor:
    return torch.from_numpy(np.array(piece(size))).permute(2, 0, 1)[None].float() / 255


def _directly(method: str, picture: Tensor) -> Tensor:
    """What spandrel gives, by its own reader."""
    return spandrel.ModelLoader().load_from_file(method.removeprefix("spandrel:")).eval()(picture)


@pytest.mark.parametrize("size", [(24, 16), (23, 17), (1, 5)])
def test_super_resolution_is_spandrels_own(enlarging, size) -> None:
    picture = _tensor(size)
    result = restore.sr(picture, 4, method=enlarging)
    expected = _directly(enlarging, picture)
    assert expected.std() > 0.01, "the network makes something of it"
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("task", "arguments"),
    [
        ("denoise", {"noise": 0.1}),
        ("deblur", {"kernel": "gaussian:1"}),
        ("colorize", {}),
        ("deblur", {"kernel": "gaussian:1", "boundary": "circular"}),
        ("solve", {"operator": "jpeg:30"}),
    ],
)
def test_pictures_of_one_size_are_spandrels_own(restoring, task, arguments) -> None:
    picture = _tensor((23, 17))
    result = (
        restore.restorer.restorer().run(TASKS[task](**arguments), picture, method=restoring).mean
    )
    shown = (
        operators.gray((3, 17, 23)).A(picture).expand(-1, 3, -1, -1)
        if task == "colorize"
        else picture
    )
    torch.testing.assert_close(result, _directly(restoring, shown), atol=1e-5, rtol=0)


def test_a_network_for_grey_pictures_takes_the_colours_one_by_one(tmp_path) -> None:
    method = _saved(_restoring(1), tmp_path / "grey.pth")
    picture = _tensor()
    result = restore.denoise(picture, 0.1, method=method)
    expected = _directly(method, picture.reshape(3, 1, 16, 24)).reshape(1, 3, 16, 24)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


def test_less_than_the_networks_scale_is_resampled_and_more_is_refused(enlarging) -> None:
    picture = _tensor()
    result = restore.sr(picture, 2.5, method=enlarging)
    resample = operators.downsample((3, 64, 96), size=(40, 60), kernel="bicubic")
    expected = resample.A(_directly(enlarging, picture)).clamp(0, 1)
    torch.testing.assert_close(
        result[..., 4:-4, 4:-4], expected[..., 4:-4, 4:-4], atol=1e-4, rtol=0
    )
    assert result.shape == expected.shape
    with pytest.raises(
        BadArgument, match=r"ESRGAN enlarges 4 times, which is less than 6; use `scale`=4"
    ):
        restore.sr(picture, 6, method=enlarging)


def test_tiles_agree_with_the_whole(enlarging, monkeypatch) -> None:
    """A network of small reach: tiles differ by what lies beyond their overlap, hardly anything."""
    monkeypatch.setattr(feed_forward, "OVERLAP", 32)
    problem = SuperResolution(4).problem(_tensor((150, 110)))
    whole = FeedForward(enlarging, HOST, tile=512)(problem)
    tiles = FeedForward(enlarging, HOST, tile=64)
    assert [len(axis) for axis in tiles._spans(110, 150)] == [2, 5]
    torch.testing.assert_close(tiles(problem), whole, atol=2e-3, rtol=0)


def test_tiles_are_halved_when_memory_runs_out(enlarging, monkeypatch) -> None:
    problem = SuperResolution(4).problem(_tensor((150, 110)))
    notices = []
    calls = []
    network = FeedForward(enlarging, HOST, tile=512, notice=notices.append)
    whole = network(problem)
    call = FeedForward._call

    def call_with_little_memory(self: FeedForward, picture: Tensor, holes: Tensor | None) -> Tensor:
        calls.append(picture.shape[-2:])
        if picture.shape[-1] > 80:
            raise torch.cuda.OutOfMemoryError
        return call(self, picture, holes)

    monkeypatch.setattr(FeedForward, "_call", call_with_little_memory)
    torch.testing.assert_close(network(problem), whole, atol=5e-3, rtol=0)
    assert notices == ["spandrel:x4.pth: not enough memory, going on with tiles of 64 pixels"]
    assert network.tile == 64
    monkeypatch.setattr(
        FeedForward, "_call", lambda *_: (_ for _ in ()).throw(torch.cuda.OutOfMemoryError())
    )
    with pytest.raises(RestoreError, match="not enough memory, even for pieces of 64x64"):
        network(problem)


def test_a_result_that_is_not_finite_is_an_error(tmp_path) -> None:
    network = _restoring()
    with torch.no_grad():
        network.model[0].bias.fill_(float("nan"))
    with pytest.raises(
        RestoreError, match=r"spandrel:nan\.pth: the network's result is not finite"
    ):
        restore.denoise(_tensor(), 0.1, method=_saved(network, tmp_path / "nan.pth"))


def test_the_border_that_a_blur_does_not_see_is_continued(restoring) -> None:
    """The consistency that is reported is that of the picture continued by its rim."""
    picture = _tensor()
    report = restore.restorer.restorer().run(Deblurring("box:3"), picture, method=restoring).report
    problem = Deblurring("box:3").problem(picture)
    answer = nn.functional.pad(_directly(restoring, picture), (1, 1, 1, 1), mode="replicate")
    assert report.consistency == pytest.approx(
        float(consistency(problem.operator, answer, picture)), rel=1e-3
    )
    assert (report.method, report.model, report.dtype) == (
        "spandrel:dn.safetensors",
        "DnCNN",
        "float32",
    )


def test_the_command(command, picture, tmp_path, enlarging) -> None:
    """16 bits, alpha and folders come through; the picture is spandrel's own."""
    picture("in/deep.png", "RGB;16")
    picture("in/sub/clear.png", "RGBA")
    outcome = command("sr", tmp_path / "in", tmp_path / "out", "--method", enlarging, "--json")
    assert outcome.code == 0, outcome.err
    told = [json.loads(line) for line in outcome.out.splitlines()]
    assert {entry["method"] for entry in told} == {"spandrel:x4.pth"}
    assert all(entry["consistency"] > 0 for entry in told)
    assert "this does not explain the input: as the network gives it" in outcome.err
    import cv2

    deep = cv2.imread(str(tmp_path / "out/deep.png"), cv2.IMREAD_UNCHANGED)
    seen = cv2.imread(str(tmp_path / "in/deep.png"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    expected = _directly(
        enlarging, torch.from_numpy(seen.astype(np.float32) / 65535).permute(2, 0, 1)[None]
    )
    assert deep.dtype == np.uint16
    assert np.abs(deep[..., ::-1] / 65535 - expected[0].permute(1, 2, 0).numpy()).max() < 3e-5
    assert Image.open(tmp_path / "out/sub/clear.png").mode == "RGBA"
    again = command("sr", tmp_path / "in", tmp_path / "out", "--method", enlarging)
    assert (again.code, "all 2 pictures" in again.err) == (6, True)
    other = _enlarging()
    with torch.no_grad():
        list(other.parameters())[-1].fill_(0.4)
    _saved(other, tmp_path / "x4.pth")
    again = command("sr", tmp_path / "in", tmp_path / "out", "--method", enlarging)
    assert "2 restored with other options" in again.err, "the weights are another network's now"


def test_holes_are_filled_by_lama(tmp_path, picture, command) -> None:
    lama = pytest.importorskip("spandrel.architectures.LaMa")
    torch.manual_seed(2)
    method = _saved(lama.LaMa(in_nc=4, out_nc=3), tmp_path / "lama.safetensors")
    hole = np.zeros((24, 40), bool)
    hole[6:18, 10:30] = True
    Image.fromarray(hole).save(tmp_path / "mask.png")
    source = picture(size=(40, 24))
    outcome = command(
        "inpaint", source, tmp_path / "out.png", "--mask", tmp_path / "mask.png", "--method", method
    )
    assert outcome.code == 0, outcome.err
    before = np.asarray(Image.open(source))
    after = np.asarray(Image.open(tmp_path / "out.png"))
    assert np.array_equal(after[~hole], before[~hole])
    shown = (
        torch.from_numpy(before.copy()).permute(2, 0, 1)[None].float()
        / 255
        * ~torch.from_numpy(hole)
    )
    loaded = spandrel.ModelLoader().load_from_file(tmp_path / "lama.safetensors").eval()
    with torch.no_grad():
        expected = (
            loaded(shown, torch.from_numpy(hole)[None, None].float())[0].permute(1, 2, 0).numpy()
        )
    assert np.abs(after[hole] - 255 * expected[hole]).max() <= 0.51
    refused = command("denoise", source, tmp_path / "no.png", "--noise", 0.1, "--method", method)
    assert (refused.code, "LaMa fills holes; it is for inpaint only" in refused.err) == (1, True)


def test_as_a_baseline_of_evaluate(tmp_path, picture, enlarging) -> None:
    picture("photos/a.png", size=(48, 32))
    result = evaluate(tmp_path / "photos", Settings("sr", scale=4, methods=("bicubic", enlarging)))
    scores = result.pictures[0].scores
    assert list(scores) == ["bicubic", "spandrel:x4.pth"]
    assert scores["spandrel:x4.pth"].calls == 1
    assert str(tmp_path) not in json.dumps(result.plain())
    with pytest.raises(BadArgument, match="ESRGAN enlarges 4 times; it is for sr, not for denoise"):
        evaluate(tmp_path / "photos", Settings("denoise", methods=(enlarging,)))


class Harmful:
    """A pickle that would make a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
def test_a_pickle_with_code_is_refused_and_not_run(command, picture, tmp_path, suffix, old) -> None:
    harm = tmp_path / "harm"
    file = tmp_path / f"evil{suffix}"
    torch.save({"model": Harmful(harm)}, file, _use_new_zipfile_serialization=not old)
    outcome = command("sr", picture(), tmp_path / "out.png", "--method", f"spandrel:{file}")
    assert outcome.code == 3
    assert "refused: it holds more than tensors (posix.mkdir), which could run code" in outcome.err
    assert not harm.exists()
    pickle.loads(pickle.dumps(Harmful(harm)))
    assert harm.exists(), "and it would have run"


@pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.pth", "there is no such file"),
        ("text.pth", "no weights that can be read"),
        ("text.safetensors", "no weights that can be read"),
        ("notes.txt", "must be a file of weights, .safetensors, .pth, .pt, .ckpt"),
        ("list.pth", "holds no state dict but a list"),
        ("script.pt", "refused: TorchScript is a program"),
        ("strange.pth", "none of the architectures that spandrel"),
        ("half.pth", "the weights do not fit the architecture"),
    ],
)
def test_files_that_are_no_network_are_refused(command, picture, tmp_path, name, said) -> None:
    for text in ("text.pth", "text.safetensors", "notes.txt"):
        (tmp_path / text).write_text("no network")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    torch.jit.script(nn.Conv2d(1, 1, 1)).save(tmp_path / "script.pt")
    torch.save({"a.weight": torch.zeros(3, 3), "b": torch.zeros(1)}, tmp_path / "strange.pth")
    state = _enlarging().state_dict()
    torch.save(
        {k: v[:3] if "sub.0.RDB2" in k else v for k, v in state.items()}, tmp_path / "half.pth"
    )
    source = picture()
    before = files(tmp_path)
    outcome = command("sr", source, "--method", f"spandrel:{tmp_path / name}")
    assert outcome.code == 3, outcome.err
    assert said in outcome.err
    assert "Traceback" not in outcome.err
    assert files(tmp_path) == before


def test_a_network_without_a_file_is_refused() -> None:
    words = "^spandrel: the file is missing; write spandrel:FILE, where FILE holds a third-party"
    with pytest.raises(Unavailable, match=words):
        check_file("spandrel:")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["denoise", "--noise", "0.1"], "ESRGAN enlarges 4 times; it is for sr, not for denoise"),
        (
            ["inpaint", "--mask", "mask.png"],
            "ESRGAN enlarges 4 times; it is for sr, not for inpaint",
        ),
        (["sr", "--steps", "5"], "--steps: a feed-forward network has one answer of its own"),
        (["sr", "--samples", "2"], "--samples: a feed-forward network has one answer of its own"),
        (["sr", "--eta", "1"], "--eta: a feed-forward network has one answer of its own"),
        (["sr", "--start", "in.png"], "--start: a feed-forward network has one answer of its own"),
    ],
)
def test_what_a_network_is_not_for_is_refused(
    command, picture, tmp_path, monkeypatch, enlarging, words, said
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.eye(16, 24) > 0).save("mask.png")
    outcome = command(words[0], picture(), *words[1:], "--method", enlarging)
    assert (outcome.code, said in outcome.err) == (1, True), outcome.err
    assert not Path(f"in-{words[0]}.png").exists()


def test_workers_elsewhere_get_absolute_paths(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    work = Work(SuperResolution(), Options("spandrel:x4.pth"))
    assert _elsewhere(work).options.method == f"spandrel:{tmp_path / 'x4.pth'}"
    work = Work(SuperResolution(), Options("ddrm", start="spandrel:x4.pth"))
    assert _elsewhere(work).options.start == f"spandrel:{tmp_path / 'x4.pth'}"
    assert _elsewhere(work).options.method == "ddrm"


def test_a_network_that_does_not_enlarge_is_not_for_sr(restoring) -> None:
    with pytest.raises(
        BadArgument, match="DnCNN restores pictures of one size; it does not enlarge"
    ):
        restore.sr(_tensor(), 4, method=restoring)


def test_a_folder_is_not_begun_without_the_network(command, picture, tmp_path) -> None:
    picture("in/a.png")
    torch.save({"a": torch.zeros(1)}, tmp_path / "x.pth")
    outcome = command("sr", tmp_path / "in", "--method", f"spandrel:{tmp_path / 'x.pth'}")
    assert outcome.code == 3
    assert "going on" not in outcome.err


def test_without_spandrel_the_message_says_what_to_install(enlarging, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(Unavailable, match=r"pip install 'restore-diffusion\[spandrel\]'"):
        Restorer().network(enlarging)
