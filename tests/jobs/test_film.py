"""Clips: what a run reads, keeps and writes, and what it refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from support.clips import pictures, write_clip
from support.networks import random_file, tiny

from restore.errors import FullDisk
from restore.film import encoding
from restore.jobs import film, reel
from restore.jobs.picture import Work

COUNT = 6
TIMES = [0, 1, 2, 7, 8, 30]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """Return a tiny model, whose results mean nothing."""
    return random_file(tmp_path_factory.mktemp("model") / "tiny.safetensors", tiny())


@pytest.fixture
def clip(tmp_path, monkeypatch) -> Path:
    """Return a clip of uneven times, with sound, in the working folder."""
    monkeypatch.chdir(tmp_path)
    return write_clip(Path("clip.mp4"), pictures(COUNT), times=TIMES, audio=True, title="Waves")


@pytest.fixture
def restored(command, model) -> Callable[..., dict]:
    """``restored("denoise", path, …)`` runs the command, and returns its JSON."""

    def run(*arguments: object) -> dict:
        done = command(*arguments, "--model", model, "--json")
        assert done.code == 0, done.err
        return json.loads(done.out)

    return run


def stream_of(path: Path, kind: str = "video") -> list[tuple]:
    """Return time, duration and content of all packets of a stream."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        unit = stream.time_base
        return [
            (float(packet.pts * unit), float((packet.duration or 0) * unit), bytes(packet))
            for packet in container.demux(stream)
            if packet.size
        ]


def frames_of(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def times_of(path: Path) -> list[float]:
    return [float(frame.pts * frame.time_base) for frame in frames_of(path)]


def test_a_clip_keeps_its_times_and_its_sound(clip, restored):
    done = restored("denoise", clip, "--noise", 0.1)
    out = Path("clip-denoise.mp4")
    assert done["outputs"] == [str(out)]
    assert (done["frames"], done["width"], done["height"]) == (COUNT, 64, 48)
    assert times_of(out) == pytest.approx([time / 24 for time in TIMES])
    assert stream_of(out, "audio") == stream_of(clip, "audio")
    with av.open(str(out)) as container:
        assert container.metadata["title"] == "Waves"
        assert container.streams.video[0].codec_context.name == "h264"

    record = json.loads(Path("clip-denoise.mp4.json").read_text())
    assert record["decided_by"]["arguments"] == {"noise": 0.1}
    assert record["written"]["size"] == out.stat().st_size
    assert sorted(path.name for path in Path().iterdir()) == [
        "clip-denoise.mp4",
        "clip-denoise.mp4.json",
        "clip.mp4",
    ]


def test_frames_are_turned_upright_and_keep_their_colours(tmp_path, monkeypatch, restored):
    """A clip on its side, of BT.709 at the full range, enlarged."""
    monkeypatch.chdir(tmp_path)
    tags = {"color_range": 2, "colorspace": 1, "color_primaries": 1, "color_trc": 1}
    shown = pictures(2)
    clip = write_clip(Path("in.mov"), shown, rotation=-90, tags=tags)
    done = restored("sr", clip, "out.mov", "--scale", 1.5, "--steps", 1)
    assert (done["width"], done["height"]) == (72, 96)

    frame = frames_of(Path("out.mov"))[0]
    assert (frame.width, frame.height, frame.rotation) == (72, 96, 0)
    said = (frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc)
    assert [int(one) for one in said] == [2, 1, 1, 1]


def test_the_result_is_the_restored_frame(clip, restored):
    """All pixels but one are known, and stay what they are through all conversions."""
    mask = np.zeros((48, 64), np.uint8)
    mask[0, 0] = 255
    Image.fromarray(mask).save("mask.png")
    restored("inpaint", clip, "out.mp4", "--mask", "mask.png", "--steps", 1, "--quality", 98)
    for before, after in zip(frames_of(clip), frames_of(Path("out.mp4")), strict=True):
        one, other = (frame.to_ndarray(format="rgb24").astype(int) for frame in (before, after))
        assert np.abs(one - other).mean() < 2


@pytest.mark.parametrize(
    ("name", "codec", "format", "kept"),
    [
        ("in.webm", "libvpx-vp9", "yuv420p", "vp9"),
        ("in.mkv", "libx265", "yuv420p10le", "hevc"),
        ("in.mkv", "ffv1", "yuv444p16le", "ffv1"),
        ("in.mkv", "ffv1", "gray", "ffv1"),
        ("in.avi", "mjpeg", "yuvj420p", "mjpeg"),
    ],
)
def test_codec_and_depth_are_kept(tmp_path, restored, name, codec, format, kept):
    clip = write_clip(tmp_path / name, pictures(2), codec=codec, format=format)
    out = tmp_path / f"out{clip.suffix}"
    done = restored("denoise", clip, out, "--noise", 0.05)
    assert done["codec"] == kept
    assert done["pixel_format"] == format.replace("yuvj", "yuv")
    assert [frame.format.name for frame in frames_of(out)] == [format] * 2


def test_a_codec_without_encoder_becomes_that_of_the_container(tmp_path, restored):
    clip = write_clip(tmp_path / "in.avi", pictures(2), codec="huffyuv", format="yuv422p")
    done = restored("denoise", clip, tmp_path / "out.mkv", "--noise", 0.05)
    assert (done["codec"], done["pixel_format"]) == ("h264", "yuv422p")


def test_odd_sides_are_kept(tmp_path, restored):
    """H.264 has 4:2:0 for even sides alone."""
    clip = write_clip(
        tmp_path / "in.webm", pictures(2, 33, 47), codec="libvpx-vp9", format="yuv420p"
    )
    done = restored("denoise", clip, tmp_path / "out.mp4", "--noise", 0.05)
    frame = frames_of(tmp_path / "out.mp4")[0]
    assert (done["codec"], frame.width, frame.height) == ("vp9", 47, 33)
    done = restored("denoise", clip, tmp_path / "out.mov", "--noise", 0.05)
    frame = frames_of(tmp_path / "out.mov")[0]
    assert (done["codec"], frame.width, frame.height) == ("h264", 47, 33)
    assert frame.format.name == "yuv444p"


def test_what_a_container_lacks_is_left_out_and_told(clip, restored):
    done = restored("denoise", clip, "out.webm", "--noise", 0.05)
    assert done["codec"] == "vp9"
    assert done["notes"] == [
        "its stream 1 (audio, aac) is left out, since it cannot be copied to .webm"
    ]


# Ends


class Ended(BaseException):
    """An end of the process that no code catches."""


@pytest.mark.parametrize("end", [KeyboardInterrupt, Ended])
def test_an_interrupted_clip_goes_on_where_it_was(clip, model, command, monkeypatch, end):
    """Finished frames are not restored again, and the clip is that of a run without interrupt."""
    monkeypatch.setattr(encoding, "SEGMENT", 2)
    monkeypatch.setattr(reel, "SEGMENT", 2)
    arguments = ("denoise", clip, "out.mp4", "--noise", 0.1, "--model", model)
    assert command("denoise", clip, "whole.mp4", *arguments[3:]).code == 0

    solved = []
    solve = Work.solve

    def counted(self, *values):
        if len(solved) == 3:
            raise end
        solved.append(values[1])
        return solve(self, *values)

    monkeypatch.setattr(Work, "solve", counted)
    if end is KeyboardInterrupt:
        done = command(*arguments)
        assert done.code == 130
        assert "3 frames are kept in out.mp4.unfinished" in done.err
    else:
        monkeypatch.setattr(film.FilmRun, "_leave", lambda self: None)
        with pytest.raises(Ended):
            command(*arguments)
    assert not Path("out.mp4").exists()
    assert sorted(os.listdir("out.mp4.unfinished"))[-2:] == [
        "segment00000.json",
        "segment00000.video",
    ]

    monkeypatch.setattr(Work, "solve", solve)
    again = []
    monkeypatch.setattr(Work, "solve", lambda *values: again.append(0) or solve(*values))
    done = command(*arguments)
    assert done.code == 0
    assert "3 of 6 frames are done already" in done.err
    assert len(again) == COUNT - 3
    assert stream_of(Path("out.mp4")) == stream_of(Path("whole.mp4"))
    assert not Path("out.mp4.unfinished").exists()


def test_frames_of_other_options_are_made_again(clip, model, command, monkeypatch):
    def interrupted(*values):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(film.FilmRun, "_publish", interrupted)
        assert command("denoise", clip, "--noise", 0.1, "--model", model).code == 130
    done = command("denoise", clip, "--noise", 0.2, "--model", model)
    assert done.code == 0
    assert "is of other options, or of another clip; it begins again" in done.err
    assert json.loads(Path("clip-denoise.mp4.json").read_text())["noise"] == pytest.approx(0.2)


def test_a_clip_whose_record_was_not_written_is_done(clip, model, command, monkeypatch):
    """A kill between the names of the clip and of its record."""
    arguments = ("denoise", clip, "--noise", 0.1, "--model", model)
    place = reel.Reel._place

    def killed(self, path, target, **options):
        if target == self.record:
            raise Ended
        place(self, path, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(reel.Reel, "_place", killed)
        with pytest.raises(Ended):
            command(*arguments)
    content = Path("clip-denoise.mp4").read_bytes()
    done = command(*arguments)
    assert (done.code, "was done already" in done.err) == (0, True)
    assert Path("clip-denoise.mp4").read_bytes() == content
    assert json.loads(Path("clip-denoise.mp4.json").read_text())["frames"] == COUNT
    assert not Path("clip-denoise.mp4.unfinished").exists()

    done = command(*arguments)
    assert (done.code, "clip-denoise.mp4: exists already" in done.err) == (5, True)


# Nothing flickers


def test_equal_frames_stay_equal_where_noise_is_drawn(tmp_path, restored, monkeypatch):
    """In batches of two and one by one; another seed draws other noise."""
    clip = write_clip(tmp_path / "in.mkv", pictures(1) * 3, codec="ffv1", format="yuv444p")
    words = ("denoise", clip, "--noise", 0.2, "--method", "ddrm", "--steps", 2, "--batch", 2)
    restored(*words, "-o", tmp_path / "a.mkv", "--seed", 1)
    one, *others = [frame.to_ndarray() for frame in frames_of(tmp_path / "a.mkv")]
    assert all(np.abs(one.astype(int) - other).max() <= 1 for other in others)

    restored(*words, "-o", tmp_path / "b.mkv", "--seed", 2)
    other = frames_of(tmp_path / "b.mkv")[0].to_ndarray()
    assert np.abs(one.astype(int) - other).mean() > 1


def test_the_noise_is_estimated_once_for_the_clip(tmp_path, restored):
    """Three frames of five are noisy; the median is that of the least noisy of them."""
    random = np.random.default_rng(0)
    still = pictures(1)[0]
    levels = [0, 0, 10, 15, 20]
    frames = [
        np.rint((still + level * random.standard_normal(still.shape)).clip(0, 255)).astype("u1")
        for level in levels
    ]
    clip = write_clip(tmp_path / "in.mkv", frames, codec="ffv1", format="yuv444p")
    done = restored("denoise", clip)
    assert 255 * done["noise"] == pytest.approx(10, rel=0.1)


def test_a_kernel_of_each_frame_is_refused(clip, model, command):
    done = command("deblur", clip, "--kernel", "auto", "--model", model)
    assert done.code == 1
    assert "--kernel auto: is for one picture" in done.err
    assert not Path("clip-deblur.mp4.unfinished").exists()


# Refusals


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--samples", 2), "--samples: is for pictures, and clip.mp4 is a clip"),
        (("--pages",), "--pages: is for pictures"),
        (("--compare",), "--compare: is for pictures"),
        (("--report", "r.html"), "--report: is for pictures"),
        (("--format", "png"), "--format: is for pictures"),
        (("--depth", 16), "--depth: is for pictures"),
        (("--start", "start.png"), "--start: is for pictures"),
        (("--engine", "ray"), "--engine: is for pictures"),
        (("--shard", "1/2"), "--shard: is for pictures"),
        (("-o", "out.png"), "out.png: a clip is written as .avi, .m4v, .mkv, .mov, .mp4, .webm"),
        (("-o", "-"), "a clip cannot be written to stdout"),
        (("-o", "clip.mp4"), "clip.mp4: is an input"),
        (("-o", "none/out.flv"), "none/out.flv: a clip is written as"),
    ],
)
def test_options_that_a_clip_does_not_have(clip, command, words, reason):
    done = command("denoise", clip, *words)
    assert done.code in (1, 5)
    assert reason in done.err
    assert sorted(path.name for path in Path().iterdir()) == ["clip.mp4"]


def test_a_quality_for_a_codec_without_one(tmp_path, command, model):
    clip = write_clip(tmp_path / "in.mkv", pictures(1), codec="ffv1")
    done = command("denoise", clip, "--quality", 90, "--model", model)
    assert done.code == 1
    assert "--quality 90: FFV1 has no quality to choose" in done.err


def test_clips_among_pictures_and_several_inputs(clip, command, picture):
    picture("a.png")
    Path("b.png").write_text("no picture")
    done = command("denoise", ".", "--noise", 0.1, "--steps", 1)
    assert done.code == 10
    assert "passed over: 1 clip (give each by itself, or a folder of clips alone)" in done.err
    done = command("denoise", "a.png", clip, "-o", "out")
    assert (done.code, done.err) == (
        1,
        "restore: error: clip.mp4: a clip is restored by itself; give it alone\n",
    )


def test_a_folder_of_clips(tmp_path, monkeypatch, command, model):
    """Outputs mirror it; a clip that fails does not end the run, and what is done stays."""
    monkeypatch.chdir(tmp_path)
    Path("films", "old").mkdir(parents=True)
    write_clip(Path("films/a.mkv"), pictures(2), codec="ffv1")
    write_clip(Path("films/old/b.mp4"), pictures(2))
    Path("films/c.mp4").write_bytes(b"no clip")
    words = ("denoise", "films", "--noise", 0.1, "--model", model)
    done = command(*words, "--dry-run")
    assert done.out.splitlines()[0] == "films/a.mkv -> " + str(tmp_path / "films-denoise/a.mkv")
    assert not Path("films-denoise").exists()
    done = command(*words, "--report", "page.html")
    assert (done.code, done.err) == (
        1, "restore: error: --report: is for pictures, and films holds clips alone\n",
    )  # fmt: skip

    done = command(*words)
    assert done.code == 10
    assert "films/c.mp4: not a clip that can be read" in done.err
    assert done.err.endswith("1 of 3 clips failed: films/c.mp4\n")
    found = sorted(str(path) for path in Path("films-denoise").rglob("*") if path.is_file())
    assert found == [
        f"films-denoise/{name}" for name in ("a.mkv", "a.mkv.json", "old/b.mp4", "old/b.mp4.json")
    ]
    assert len(frames_of(Path("films-denoise/old/b.mp4"))) == 2

    before = Path("films-denoise/a.mkv").stat()
    Path("films/c.mp4").unlink()
    done = command(*words)
    assert (done.code, Path("films-denoise/a.mkv").stat()) == (6, before)
    assert "all 2 clips of films are in" in done.err


@pytest.mark.parametrize(
    ("task", "reason"),
    [("dejpeg", "ffmpeg -i CLIP -codec:v copy %06d.jpg"), ("auto", "give the clip to the task")],
)
def test_tasks_that_take_no_clips(clip, command, model, task, reason):
    for words in ((task, clip), (task, clip, "--dry-run")):
        done = command(*words, "--model", model)
        assert done.code == 1
        assert done.err.startswith(f"restore: error: {task}: is for ")
        assert reason in done.err
    assert sorted(path.name for path in Path().iterdir()) == ["clip.mp4"]


def test_a_dry_run_shows_what_would_be_done(clip, command):
    done = command("denoise", clip, "--dry-run")
    assert (done.code, done.out) == (0, "clip.mp4 -> clip-denoise.mp4\n")
    assert sorted(path.name for path in Path().iterdir()) == ["clip.mp4"]


def test_damaged_and_interlaced_clips(tmp_path, command, model, restored):
    clip = write_clip(tmp_path / "a.mkv", pictures(12))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(clip.read_bytes()[: 4 * clip.stat().st_size // 5])
    done = command("denoise", cut, "--noise", 0.1, "--model", model)
    assert done.code == 2
    assert "--allow-truncated restores what" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mkv", "cut.mkv"]

    done = restored("denoise", cut, "--noise", 0.1, "--allow-truncated")
    assert 0 < done["frames"] < 12
    assert len(frames_of(tmp_path / "cut-denoise.mkv")) == done["frames"]

    woven = write_clip(tmp_path / "woven.mkv", pictures(2), interlaced=True)
    done = command("denoise", woven, "--model", model)
    assert (done.code, "it is interlaced" in done.err) == (2, True)


def test_a_full_disk_leaves_what_is_done(clip, command, model, monkeypatch):
    write = reel.write_atomically

    def full(data, path, overwrite):
        if path.name == "00000002.frame":
            raise FullDisk(f"{path}: cannot be written: No space left on device")
        write(data, path, overwrite)

    words = ("denoise", clip, "--noise", 0.1, "--model", model)
    with monkeypatch.context() as patch:
        patch.setattr(reel, "write_atomically", full)
        done = command(*words)
    assert done.code == 5
    assert "2 frames are kept in clip-denoise.mp4.unfinished" in done.err
    done = command(*words)
    assert (done.code, "2 of 6 frames are done already" in done.err) == (0, True)
