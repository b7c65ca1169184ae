"""What is read of a clip, and why others are refused."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from support.clips import pictures, write_clip

from restore.errors import Unavailable, UnreadableInput
from restore.film import apart
from restore.film.clip import Limits, Look, upright_rgb
from restore.film.reader import Reader
from restore.photo.refusals import Unreadable


def look(path: Path, **limits: int) -> Look:
    """Look at a clip in this process."""
    reader = Reader(path, Limits(**{"max_pixels": 10**6, **limits}))
    found = reader.look()
    try:
        while True:
            next(found)
    except StopIteration as end:
        return end.value
    finally:
        reader.close()


def test_frames_times_and_samples(tmp_path):
    times = [0, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23, 24]
    clip = write_clip(tmp_path / "a.mkv", pictures(12), times=times)
    found = look(clip, samples=4)
    assert found.clip.count == 12
    assert found.clip.size == (48, 64)
    assert [frame.time for frame in found.sampled] == [0, 167, 458, 875][:1] + [
        round(1000 * times[index] / 24) for index in (4, 8)
    ]
    assert found.clip.time_base == Fraction(1, 1000)

    reader = Reader(clip, Limits(10**6))
    assert len(list(reader.skip(10))) == 10
    assert [frame.time for frame in (reader.next(), reader.next())] == [958, 1000]
    assert reader.next() is None


@pytest.mark.parametrize("angle", [0, 90, 180, -90])
def test_frames_are_turned_as_players_turn_them(tmp_path, angle):
    """``rotation`` is the angle against the clock in PyAV, as it is in numpy."""
    picture = pictures(1)[0]
    picture[:10, :20] = 255
    found = look(write_clip(tmp_path / "a.mp4", [picture] * 2, rotation=angle))
    shown = upright_rgb(found.sampled[0], found.clip)
    expected = np.rot90(picture, angle // 90) / 255
    assert shown.shape[:2] == found.clip.upright == expected.shape[:2]
    assert np.abs(shown - expected).mean() < 0.02


def refused(path: Path, **limits: int) -> str:
    with pytest.raises(Unreadable) as error:
        look(path, **limits)
    return str(error.value)


def test_files_that_are_no_clips(tmp_path):
    for content, reason in (
        (b"", "the file is empty"),
        (b"words" * 100, "not a clip that can be read"),
        (b"#EXTM3U\n#EXTINF:3,\nhttp://example.org/a.ts\n", "not a clip that can be read"),
        (b"ffconcat version 1.0\nfile other.mp4\n", "not a clip that can be read"),
    ):
        path = tmp_path / "a.mp4"
        path.write_bytes(content)
        assert reason in refused(path)
    with pytest.raises(OSError, match="No such file"):
        look(tmp_path / "none.mp4")


def test_a_cut_clip(tmp_path):
    """An MP4 has its index at the end, and loses all; others lose frames."""
    whole = write_clip(tmp_path / "a.mp4", pictures(30))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[:-3000])
    assert "damaged or cut off" in refused(cut)

    for name, muxer in (("b.mkv", {}), ("c.mp4", {"movflags": "+faststart"}), ("d.avi", {})):
        codec = "mpeg4" if name == "d.avi" else "libx264"
        whole = write_clip(tmp_path / name, pictures(30), muxer=muxer, codec=codec)
        assert not look(whole).clip.truncated
        cut = whole.with_stem("cut")
        cut.write_bytes(whole.read_bytes()[: 4 * whole.stat().st_size // 5])
        found = look(cut).clip
        assert 0 < found.count < 30
        assert found.truncated or found.damaged


def test_damaged_frames_are_counted(tmp_path):
    whole = bytearray(
        write_clip(tmp_path / "a.avi", pictures(30), codec="mjpeg", format="yuvj420p").read_bytes()
    )
    middle = whole.index(b"00dc", len(whole) // 2)
    size = int.from_bytes(whole[middle + 4 : middle + 8], "little")
    whole[middle + 8 : middle + 8 + size] = bytes(size)
    path = tmp_path / "b.avi"
    path.write_bytes(whole)
    found = look(path).clip
    assert (found.damaged, found.count) == (1, 29)


def test_clips_without_video(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as out:
        sound = out.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        frame.rate = 48000
        for packet in [*sound.encode(frame), *sound.encode(None)]:
            out.mux(packet)
    assert refused(path) == "the file has no video"


def test_encrypted_clips(tmp_path):
    keys = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "00" * 16,
        "encryption_kid": "11" * 16,
    }
    path = write_clip(tmp_path / "a.mp4", pictures(3), muxer=keys)
    assert refused(path) == "it is encrypted; only whoever has its key can restore it"


def test_frames_that_are_too_large(tmp_path):
    path = write_clip(tmp_path / "a.mp4", pictures(1))
    assert refused(path, max_pixels=3000).startswith("its frames have 64x48 pixels; at most")


def test_frames_that_change_their_size(tmp_path):
    small = write_clip(tmp_path / "a.mkv", pictures(3), codec="mpeg4")
    large = write_clip(tmp_path / "b.mkv", pictures(3, 96, 128), codec="mpeg4")
    path = tmp_path / "c.avi"
    with av.open(str(path), "w") as out, av.open(str(small)) as one, av.open(str(large)) as two:
        stream = out.add_stream_from_template(one.streams.video[0], opaque=True)
        for place, container in enumerate((one, two)):
            head = container.streams.video[0].codec_context.extradata
            for packet in container.demux(video=0):
                if packet.size:
                    data = av.Packet(head + bytes(packet))
                    data.pts = data.dts = packet.pts + 200 * place
                    data.time_base = packet.time_base
                    data.is_keyframe = packet.is_keyframe
                    data.stream = stream
                    out.mux(data)
    assert "its frames change their size, from 64x48 to 128x96 pixels" in refused(path)


def test_interlaced_frames_are_counted(tmp_path):
    path = write_clip(tmp_path / "a.mkv", pictures(3), interlaced=True)
    assert look(path).clip.interlaced == 3


def test_a_reader_that_crashes_is_an_error_of_the_clip(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "a.mp4", pictures(1))
    monkeypatch.setattr(apart, "MODULE", "support.crashing_clips")
    with (
        apart.projecting(path, "a.mp4", Limits(10**6)) as projector,
        pytest.raises(UnreadableInput, match=r"a\.mp4: the decoder crashed on it \(SIGABRT\): the"),
    ):
        projector.look()


def test_without_pyav(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Unavailable, match=r"pip install 'restore-diffusion\[video\]'"):
        apart.check_installed()
