"""Downloads of checkpoints, from a server in this process: cut, refused, wrong, twice at once,
without room.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support.file_server import FileServer, serving
from support.networks import random_state, tiny
from support.pictures import Outcome, piece

import cli
import pretrained
import restore
from pretrained import catalogue, layouts, store
from pretrained import download as downloads
from pretrained.catalogue import WITHOUT, RemoteFile
from pretrained.download import CacheError, download, get_json
from pretrained.errors import CheckpointError
from restore.errors import Unavailable

DATA = bytes(range(256)) * 1200
"""Of a file, 307,200 bytes."""
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as running:
        running.files["/w.pt"] = DATA
        yield running


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """A cache folder of its own, no long pauses, and no way out of this machine."""
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("RESTORE_OFFLINE", raising=False)
    monkeypatch.setattr(downloads, "PAUSE", 0.01)
    monkeypatch.setattr(downloads, "_CHUNK", 1000)
    connect = socket.socket.connect

    def only_here(self: socket.socket, address: Any) -> None:
        assert address[0] in ("127.0.0.1", "::1"), f"a test wanted to connect to {address}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_here)
    return tmp_path / "cache"


@pytest.fixture
def listed(tmp_path, monkeypatch, server) -> Callable[..., None]:
    """``listed(sha256=…)`` makes a catalogue of one checkpoint, ``tiny``, whose file is the
    server's.
    """

    def write(**changes: Any) -> None:
        file = {
            "name": "w.pt",
            "addresses": [f"{server.address}/w.pt"],
            "size": len(DATA),
            "sha256": SHA256,
            **changes,
        }
        facts = {**FACTS, "network": "small", "parameters": len(DATA) // 4, "file": file}
        tables = {
            "networks": {"small": {"schedule": {"name": "linear"}, "backbone": {"channels": 32}}}
        }
        tables["models"] = {
            "tiny": {**facts, "file": {k: v for k, v in file.items() if v is not None}}
        }
        path = tmp_path / f"catalog{len(list(tmp_path.glob('catalog*')))}.toml"
        path.write_text(toml(tables))
        monkeypatch.setattr(catalogue, "CATALOGUE", path)

    write()
    return write


FACTS = {
    "title": "A small one",
    "use": "trying out",
    "licence": "CC0",
    "training": "nothing",
    "page": "http://127.0.0.1/page",
    "layout": "adm",
    "resolution": 32,
}


def toml(tables: dict[str, Any], above: str = "") -> str:
    """Nested tables as TOML; JSON's values are TOML's."""
    lines = []
    for name, value in tables.items():
        if isinstance(value, dict):
            lines.append(toml(value, f"{above}{name}."))
        else:
            lines.insert(0, f"{name} = {json.dumps(value)}\n")
    text = f"[{above.removesuffix('.')}]\n" + "".join(lines) if above else "".join(lines)
    return text


def get(command, *options: object) -> Outcome:
    return command("models", "get", "tiny", *options)


def here(cache: Path) -> list[str]:
    """The files of a checkpoint, whole or not."""
    return sorted(path.name for path in (cache / "models" / "tiny").glob("*"))


def test_toml_of_the_tests():
    tables = {"a": 1, "b": {"c": "x", "d": {"e": [1, 2]}, "f": True}}
    assert tomllib.loads(toml(tables)) == tables


# One file


def remote(server: FileServer, *paths: str, **facts: Any) -> RemoteFile:
    addresses = tuple(f"{server.address}{path}" for path in paths or ("/w.pt",))
    return RemoteFile("w.pt", addresses, **{"size": len(DATA), "sha256": SHA256, **facts})


def test_a_file(server, tmp_path):
    seen = []
    file = remote(server)
    assert (
        download(file, tmp_path / "to", lambda *numbers: seen.append(numbers)) == file.addresses[0]
    )
    assert (tmp_path / "to" / "w.pt").read_bytes() == DATA
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["w.pt"]
    assert seen[-1] == (len(DATA), len(DATA))


@pytest.mark.parametrize(
    "known", [{}, {"size": None}, {"sha256": None}, {"size": None, "sha256": None}]
)
def test_a_cut_connection_is_taken_up_again(server, tmp_path, known):
    server.cuts["/w.pt"] = [100_000, 50_000]
    download(remote(server, **known), tmp_path / "to")
    assert (tmp_path / "to" / "w.pt").read_bytes() == DATA
    assert [asked.range for asked in server.asked] == [None, "bytes=100000-", "bytes=150000-"]


def test_another_run_goes_on_where_the_first_gave_up(server, tmp_path):
    server.cuts["/w.pt"] = [100_000, *[0] * downloads.TRIES]
    with pytest.raises(CheckpointError, match="cut off"):
        download(remote(server), tmp_path / "to")
    assert not (tmp_path / "to" / "w.pt").exists()
    server.asked.clear()
    download(remote(server), tmp_path / "to")
    assert (tmp_path / "to" / "w.pt").read_bytes() == DATA
    assert [asked.range for asked in server.asked] == ["bytes=100000-"]
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["w.pt"]


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    server.ranges = False
    server.cuts["/w.pt"] = [100_000]
    download(remote(server), tmp_path / "to")
    assert (tmp_path / "to" / "w.pt").read_bytes() == DATA


def test_a_file_that_changed_meanwhile_is_not_mixed(server, tmp_path):
    """Nobody published its digest, so that only the server can tell."""
    unknown = remote(server, sha256=None)
    server.cuts["/w.pt"] = [100_000, *[0] * downloads.TRIES]
    with pytest.raises(CheckpointError):
        download(unknown, tmp_path / "to")
    server.files["/w.pt"] = DATA[::-1]
    download(unknown, tmp_path / "to")
    assert (tmp_path / "to" / "w.pt").read_bytes() == DATA[::-1]


def test_all_had_come_but_the_name(server, tmp_path):
    """Killed between the last byte and the new name, with a size that nobody published."""
    server.cuts["/w.pt"] = [len(DATA) - 1, *[0] * downloads.TRIES]
    with pytest.raises(CheckpointError):
        download(remote(server, size=None), tmp_path / "to")
    (partial,) = (tmp_path / "to").glob("*.partial")
    partial.write_bytes(DATA)
    download(remote(server, size=None), tmp_path / "to")
    assert (tmp_path / "to" / "w.pt").read_bytes() == DATA


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"sha256": "0" * 64}, "SHA256 hash of downloaded file .* does not match"),
        ({"sha256": None, "md5": "0" * 32}, "MD5 hash of downloaded file .* does not match"),
        ({"size": 5}, "has 307,200 bytes; the file that was published has 5"),
        ({"size": 10**6}, "has 307,200 bytes; the file that was published has 1,000,000"),
    ],
)
def test_another_file_than_was_published(server, tmp_path, facts, said):
    server.cuts["/w.pt"] = [100_000, *[0] * downloads.TRIES]
    with pytest.raises(CheckpointError, match="cut off"):
        download(remote(server), tmp_path / "to")
    with pytest.raises(CheckpointError, match=said):
        download(remote(server, **facts), tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []


def test_a_web_page_is_no_file(server, tmp_path):
    """Expired links answer so, and it must not be pinned."""
    server.types["/w.pt"] = "text/html; charset=utf-8"
    with pytest.raises(CheckpointError, match="sends a web page"):
        download(remote(server, size=None, sha256=None), tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []


@pytest.mark.parametrize("size", [len(DATA), None])
def test_a_server_that_never_ends_is_left(server, tmp_path, monkeypatch, size):
    """What is written stays within the published size, or the largest one allowed."""
    monkeypatch.setattr("pretrained.download.LARGEST", len(DATA))
    server.files["/w.pt"] = DATA
    server.endless.add("/w.pt")
    most = 0

    def progress(done: int, total: int | None) -> None:
        nonlocal most
        most = max(most, done)

    with pytest.raises(CheckpointError, match=f"sends more than the {len(DATA):,} bytes"):
        download(remote(server, size=size), tmp_path / "to", progress)
    assert most <= len(DATA)
    assert list((tmp_path / "to").iterdir()) == []


def test_a_server_that_drips_is_left(server, tmp_path, monkeypatch):
    """A byte now and then keeps a connection alive, and would last for years."""
    monkeypatch.setattr("pretrained.download.SLOW_SECONDS", 0.2)
    monkeypatch.setattr("pretrained.download.PAUSE", 0.0)
    server.drip = 0.05
    started = time.monotonic()
    with pytest.raises(CheckpointError, match="is too slow: "):
        download(remote(server), tmp_path / "to")
    assert time.monotonic() - started < 20


def test_an_endless_answer_about_a_repository_is_left(server, monkeypatch):
    monkeypatch.setattr("pretrained.download.LARGEST_JSON", 2**17)
    server.files["/api"] = b"{}"
    assert get_json(f"{server.address}/api") == {}
    server.endless.add("/api")
    with pytest.raises(CheckpointError, match="sends more than 131,072 bytes"):
        get_json(f"{server.address}/api")


def test_mirrors(server, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}/w.pt"
    server.files["/bad.pt"] = b"x" * len(DATA)
    gone, bad, good = (f"{server.address}/{name}" for name in ("gone.pt", "bad.pt", "w.pt"))
    file = RemoteFile("w.pt", (closed, gone, bad, good), len(DATA), SHA256)
    assert download(file, tmp_path / "to") == good
    assert (tmp_path / "to" / "w.pt").read_bytes() == DATA
    with pytest.raises(CheckpointError) as caught:
        download(RemoteFile("w.pt", (closed, gone, bad), len(DATA), SHA256), tmp_path / "none")
    for said in (
        f"{closed}: no connection",
        "refused",
        f"{gone}: answers 404 Not Found",
        f"{bad}: is not the file",
    ):
        assert said in str(caught.value)
    assert list((tmp_path / "none").iterdir()) == []


def test_no_room(server, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(CacheError, match=r"0 MB are to come and 0 MB are free; .* RESTORE_CACHE"):
        download(remote(server), tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []


def test_offline_asks_nobody(server, tmp_path, monkeypatch):
    monkeypatch.setenv("RESTORE_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="RESTORE_OFFLINE is set"):
        download(remote(server), tmp_path / "to")
    assert server.asked == []


# The command


def test_get_verify_show_remove(command, cache, listed, server):
    listing = json.loads(command("models", "--json").out.splitlines()[1])
    assert listing == {
        "name": "tiny",
        "state": "available",
        "size_bytes": len(DATA),
        "exact": True,
        "licence": "CC0",
        "for": "trying out",
    }
    assert command("models", "verify", "tiny").code == 3
    assert command("models", "remove", "tiny").code == 6
    done = get(command, "--yes")
    assert done.code == 0, done.err
    assert "compared with the published digest" in done.err
    assert here(cache) == ["installed.json", "w.pt"]
    assert [json.loads(line)["state"] for line in command("models", "--json").out.splitlines()] == [
        "shipped",
        "installed",
    ]
    assert command("models", "verify", "tiny").out.startswith("tiny: whole, 307,200 bytes")
    card = json.loads(command("models", "show", "tiny", "--json").out)
    assert (card["installed"], card["licence"], card["sha256"]) == (True, "CC0", SHA256)
    assert get(command, "--yes").code == 6
    assert len(server.asked) == 1

    path = cache / "models" / "tiny" / "w.pt"
    path.write_bytes(b"y" + DATA[1:])
    outcome = command("models", "verify", "tiny")
    assert outcome.code == 3
    assert f"{path} has changed" in outcome.err
    assert command("models", "remove", "tiny").code == 0
    assert not path.exists()
    assert command("models", "remove", "tiny").code == 6


def test_nothing_comes_unasked(command, cache, listed, server, picture):
    """Without a terminal or --yes: what would come is said, and nothing comes."""
    for arguments in (
        ("models", "get", "tiny"),
        ("sr", picture(), "--model", "tiny"),
        ("info", "--model", "tiny"),
    ):
        outcome = command(*arguments)
        assert outcome.code == 3
        for said in ("0 MB from", f"{server.address}/w.pt", "licence: CC0", "--yes"):
            assert said in outcome.err
    with pytest.raises(Unavailable, match="restore models get tiny --yes"):
        restore.sr(piece(), model="tiny")
    assert server.asked == []
    assert not cache.exists()


@pytest.mark.parametrize("answer", ["y", "n"])
def test_a_person_is_asked(command, cache, listed, server, monkeypatch, answer):
    monkeypatch.setattr("restore.commands.downloads.can_ask", lambda: True)
    asked = []
    monkeypatch.setattr("typer.confirm", lambda text, **_: asked.append(text) or answer == "y")
    outcome = get(command)
    assert outcome.code == (0 if answer == "y" else 6)
    assert asked == ["Download it?"]
    assert f"tiny: 0 MB from {server.address}/w.pt; licence: CC0" in outcome.err
    assert len(server.asked) == (answer == "y")


def test_a_run_asks_and_goes_on(command, cache, listed, server, monkeypatch, picture):
    """The answer of a person, then the layout's reader gets the file and what the catalogue says of
    it.
    """
    monkeypatch.setattr("restore.commands.downloads.can_ask", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda text, **_: True)
    read = reader(monkeypatch)
    done = command("sr", picture(), "--scale", "2", "--model", "tiny", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["model"] == "tiny"
    assert [asked.path for asked in server.asked] == ["/w.pt"]
    path, expected = read[0]
    assert path == cache / "models" / "tiny" / "w.pt"
    assert expected == {"schedule": {"name": "linear"}, "backbone": {**WITHOUT, "channels": 32}}


def test_yes_downloads_and_goes_on(command, listed, server, monkeypatch, picture):
    reader(monkeypatch)
    done = command("sr", picture(), "--scale", "2", "--model", "tiny", "--yes")
    assert done.code == 0, done.err
    assert len(server.asked) == 1


def test_from_the_server_to_the_picture(command, listed, server, picture, tmp_path):
    """A pickle of ADM: by its name, by the file's own, and converted, also beside it, it restores
    the same.
    """
    state = random_state(tiny())
    file = tmp_path / "w.pt"
    torch.save(state, file)
    data = server.files["/w.pt"] = file.read_bytes()
    listed(size=len(data), sha256=hashlib.sha256(data).hexdigest())
    assert get(command, "--yes").code == 0
    own = [tmp_path / "own.safetensors", file.with_suffix(".safetensors")]
    for source, target in zip(("tiny", file), own, strict=True):
        assert command("models", "convert", source, target).code == 0
    for number, model in enumerate(("tiny", file, *own)):
        words = ["--scale", 2, "--steps", 2, "--model", model]
        outcome = command("sr", picture(), tmp_path / f"{number}.png", *words)
        assert outcome.code == 0, outcome.err
    assert len({(tmp_path / f"{number}.png").read_bytes() for number in range(4)}) == 1


def test_another_network_than_the_catalogue_says(command, listed, server, picture, tmp_path):
    """With a part that the catalogue does not mention."""
    torch.save(random_state(tiny(classes=3)), tmp_path / "w.pt")
    server.files["/w.pt"] = (tmp_path / "w.pt").read_bytes()
    listed(size=None, sha256=None)
    outcome = command("sr", picture(), "--model", "tiny", "--yes")
    assert outcome.code == 3
    assert "not the network that was expected: backbone.classes: 3, expected 0" in outcome.err


def reader(monkeypatch) -> list[tuple[Path, Any]]:
    """Put a reader of foreign layouts in place that finds the shipped network in every file; what
    it is asked.
    """
    read = []

    shipped = layouts.read(pretrained.checkpoint_path("default"))

    def read_shipped(path: Path, *, expected: Any = None) -> tuple[Any, Any]:
        read.append((path, expected))
        return shipped

    monkeypatch.setattr(layouts, "read", read_shipped)
    return read


def test_a_local_file_with_the_name_of_a_public_one(listed, monkeypatch, tmp_path):
    """What shapes do not tell is taken from the catalogue; a file of another name or size is
    another file.
    """
    read = reader(monkeypatch)
    for name, data in (("w.pt", DATA), ("other.pt", DATA), ("w.pt", DATA[1:])):
        (tmp_path / name).write_bytes(data)
        pretrained.load(str(tmp_path / name))
    (tmp_path / "w.pt").write_bytes(DATA)
    (tmp_path / "w.toml").touch()  # what somebody says of it goes before
    pretrained.load(str(tmp_path / "w.pt"))
    assert [expected is not None for _, expected in read] == [True, False, False, False]


def test_a_file_that_was_fetched_by_hand(command, cache, listed, server, tmp_path):
    listed(addresses=[])
    outcome = get(command, "--yes")
    assert outcome.code == 3
    assert "its address is unknown: fetch w.pt from http://127.0.0.1/page" in outcome.err
    wrong = tmp_path / "wrong.pt"
    right = tmp_path / "right.pt"
    wrong.write_bytes(DATA[::-1])
    right.write_bytes(DATA)
    assert get(command, "--from", tmp_path / "absent").code == 5
    outcome = get(command, "--from", wrong)
    assert outcome.code == 3
    assert "does not match" in outcome.err
    assert here(cache) == []
    assert get(command, "--from", right).code == 0
    assert (cache / "models" / "tiny" / "w.pt").read_bytes() == right.read_bytes() == DATA
    assert server.asked == []


def test_a_digest_that_nobody_published_is_pinned(command, cache, listed, server):
    listed(sha256=None)
    assert "w.pt: pinned at the first download" in get(command, "--yes").err
    assert json.loads((cache / "pinned" / "tiny.json").read_text()) == {"w.pt": SHA256}
    assert command("models", "remove", "tiny").code == 0
    server.files["/w.pt"] = DATA[::-1]
    outcome = get(command, "--yes")
    assert outcome.code == 3
    assert "has changed since it was first downloaded" in outcome.err
    assert here(cache) == []
    (cache / "pinned" / "tiny.json").unlink()
    assert get(command, "--yes").code == 0


def test_an_md5_is_published_too(command, cache, listed):
    """It is compared, and as it is weak, the SHA-256 is pinned besides."""
    listed(sha256=None, md5=hashlib.md5(DATA).hexdigest())
    assert "compared with the published digest" in get(command, "--yes").err
    assert json.loads(command("models", "show", "tiny", "--json").out)["sha256"] == SHA256
    assert json.loads((cache / "pinned" / "tiny.json").read_text()) == {"w.pt": SHA256}


def test_offline(command, cache, listed, server, monkeypatch, picture):
    monkeypatch.setenv("RESTORE_OFFLINE", "1")
    monkeypatch.setattr("restore.commands.downloads.can_ask", lambda: True)
    run = ("sr", picture(), "--model", "tiny")
    for arguments in (("models", "get", "tiny", "--yes"), run, (*run, "--yes")):
        outcome = command(*arguments)
        assert outcome.code == 3
        assert "RESTORE_OFFLINE is set" in outcome.err
    assert server.asked == []
    monkeypatch.delenv("RESTORE_OFFLINE")
    assert get(command, "--yes").code == 0
    monkeypatch.setenv("RESTORE_OFFLINE", "1")
    reader(monkeypatch)
    assert command("sr", picture(), "--scale", "2", "--model", "tiny", "--overwrite").code == 0
    assert len(server.asked) == 1


@pytest.mark.parametrize("name", ["tinny", "hf:nothing", "hf:a/b@", "hf:../x/y", "/w.pt"])
def test_unknown_names(command, cache, listed, name):
    outcome = command("models", "get", name, "--yes")
    assert outcome.code in (1, 3)
    if name == "tinny":
        assert "did you mean tiny?" in outcome.err
    assert not cache.exists()


@pytest.mark.parametrize("words", [("get",), ("verify",), ("remove",)])
def test_the_shipped_model_stays(command, words):
    outcome = command("models", *words, "default")
    assert outcome.code == 1
    assert "default: is in the package" in outcome.err


def test_a_run_offers_the_nearest_name(command, picture):
    outcome = command("sr", picture(), "--model", "adm-imagenet265")
    assert outcome.code == 3
    assert "did you mean adm-imagenet256" in outcome.err


# The cache folder


def test_a_cache_that_cannot_be_written(command, cache, listed):
    cache.write_text("a file, not a folder")
    outcome = get(command, "--yes")
    assert outcome.code == 5
    for said in (str(cache), "cannot be written", "RESTORE_CACHE=FOLDER"):
        assert said in outcome.err


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs permissions, which root is above"
)
def test_a_read_only_cache_serves_what_is_in_it(command, cache, listed, monkeypatch, picture):
    assert get(command, "--yes").code == 0
    folders = [cache, *(path for path in cache.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        reader(monkeypatch)
        assert command("sr", picture(), "--scale", "2", "--model", "tiny").code == 0
        assert command("models", "remove", "tiny").code == 5
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_a_damaged_record(command, cache, listed):
    assert get(command, "--yes").code == 0
    record = cache / "models" / "tiny" / "installed.json"
    for text, said in (
        ("{", "cannot be read"),
        ("{}", "is no record of ours"),
        ("[]", "is no record of ours"),
    ):
        record.write_text(text)
        outcome = command("models")
        assert outcome.code == 5
        assert f"{record}: {said}" in outcome.err


def test_a_damaged_pin_is_no_pass(command, cache, listed):
    listed(sha256=None)
    (cache / "pinned").mkdir(parents=True)
    (cache / "pinned" / "tiny.json").write_text("{")
    outcome = get(command, "--yes")
    assert outcome.code == 5
    assert "tiny.json: cannot be read" in outcome.err


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_a_file_that_lost_its_end_is_not_installed(command, cache, listed, server, sha256):
    listed(sha256=sha256)
    assert get(command, "--yes").code == 0
    (cache / "models" / "tiny" / "w.pt").write_bytes(DATA[:-1])
    assert json.loads(command("models", "--json").out.splitlines()[1])["state"] == "available"
    assert "cut short" in command("models", "verify", "tiny").err
    assert get(command, "--yes").code == 0
    assert (cache / "models" / "tiny" / "w.pt").read_bytes() == DATA


def test_info_says_what_is_installed(command, cache, listed):
    assert get(command, "--yes").code == 0
    info = json.loads(command("info", "--json").out)["models"]
    assert info == {
        "cache": str(cache),
        "installed": "tiny",
        "installed_size_bytes": len(DATA),
        "offline": False,
    }


def in_a_process(
    prelude: str = "pass",
    arguments: Sequence[str] = ("models", "get", "tiny", "--yes"),
    **streams: int,
) -> subprocess.Popen[str]:
    """The command, with the catalogue of this test."""
    code = (
        "import sys; from pathlib import Path; from pretrained import catalogue; import cli; "
        f"{prelude}; catalogue.CATALOGUE = Path({str(catalogue.CATALOGUE)!r}); "
        f"sys.exit(cli.exit_code({list(arguments)}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parent)}
    streams = {"stderr": subprocess.PIPE, **streams}
    return subprocess.Popen([sys.executable, "-c", code], text=True, env=environment, **streams)


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
def test_on_a_terminal(cache, listed, server):
    """The question, the answer and a bar, as a person sees them."""
    import pty

    ours, theirs = pty.openpty()
    process = in_a_process(arguments=["models", "get", "tiny"], stdin=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while b"[y/N]" not in shown:
        shown += os.read(ours, 1000)
    assert server.asked == []
    os.write(ours, b"y\n")
    with contextlib.suppress(OSError):  # the other end is closed
        while more := os.read(ours, 1000):
            shown += more
    os.close(ours)
    assert process.wait(60) == 0
    text = shown.decode()
    assert "licence: CC0" in text
    assert "307.2/307.2 kB" in text
    assert here(cache) == ["installed.json", "w.pt"]


def test_two_processes_download_once(cache, listed, server):
    """One stalls before its last byte until the other has said that it waits."""
    server.release.clear()
    first = in_a_process()
    try:
        until = time.monotonic() + 60
        while not server.asked and time.monotonic() < until:
            time.sleep(0.02)
        second = in_a_process()
        assert (
            "tiny is being downloaded by another process; waiting for it"
            in second.stderr.readline()
        )
    finally:
        server.release.set()
        said = [process.communicate(timeout=60)[1] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), said
    assert len(server.asked) == 1
    assert (cache / "models" / "tiny" / "w.pt").read_bytes() == DATA


@pytest.mark.skipif(sys.platform == "win32", reason="has no resource limits")
def test_a_full_disk(command, cache, listed, server):
    """A limit of the file size stands for the end of the disk: it is said, and the next attempt
    goes on from there.
    """
    limit = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, "
        "resource.RLIM_INFINITY))"
    )
    process = in_a_process(limit)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 5, said
    assert "cannot be written" in said
    assert "Traceback" not in said
    assert not (cache / "models" / "tiny" / "w.pt").exists()
    server.asked.clear()
    assert get(command, "--yes").code == 0
    assert server.asked[0].range == "bytes=100000-"
    assert (cache / "models" / "tiny" / "w.pt").read_bytes() == DATA


# Repositories of the hub


@pytest.fixture
def hub(server, monkeypatch) -> Callable[[dict[str, bytes]], None]:
    """``hub(files)`` serves a repository ``me/small`` with these files; the commit of ``main`` is
    c0ffee.
    """
    monkeypatch.setenv("HF_ENDPOINT", f"{server.address}/")

    def serve(files: dict[str, bytes]) -> None:
        facts = [
            {"rfilename": name, "size": len(data), **_large(name, data)}
            for name, data in files.items()
        ]
        answer = json.dumps({"sha": "c0ffee", "siblings": facts}).encode()
        server.files["/api/models/me/small/revision/main"] = answer
        server.files |= {f"/me/small/resolve/c0ffee/{name}": data for name, data in files.items()}

    return serve


def _large(name: str, data: bytes) -> dict[str, Any]:
    if name.endswith(".json"):
        return {}
    return {"lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}}


def test_a_model_of_ours_on_the_hub(command, cache, hub, server, picture, tmp_path, monkeypatch):
    """From the question to the picture, without code of others; the second run asks nobody."""
    shipped = pretrained.checkpoint_path("default")
    hub(
        {
            "README.md": b"x",
            "m.safetensors": shipped.read_bytes(),
            "m.json": shipped.with_suffix(".json").read_bytes(),
        }
    )
    refused = command("sr", picture(), "--model", "hf:me/small")
    assert refused.code == 3
    assert "restore models get hf:me/small --yes" in refused.err
    assert server.asked == []
    done = command("models", "get", "hf:me/small", "--yes")
    assert done.code == 0, done.err
    assert "nobody published a digest of m.json" in done.err
    monkeypatch.setenv("RESTORE_OFFLINE", "1")
    theirs = command("sr", picture(), tmp_path / "a.png", "--scale", "2", "--model", "hf:me/small")
    ours = command("sr", picture(), tmp_path / "b.png", "--scale", "2")
    assert (theirs.code, ours.code) == (0, 0)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (
        json.loads(command("models", "show", "hf:me/small", "--json").out)["repository"]
        == "me/small@c0ffee"
    )
    assert "hf:me/small" in command("models").out
    assert command("models", "remove", "hf:me/small").code == 0


def test_a_repository_that_changes_is_refused(command, hub, server):
    """Its own digests say nothing about that: what was first downloaded is pinned."""
    hub({"w.pt": DATA})
    assert command("models", "get", "hf:me/small", "--yes").code == 0
    assert command("models", "remove", "hf:me/small").code == 0
    hub({"w.pt": DATA[::-1]})
    outcome = command("models", "get", "hf:me/small", "--yes")
    assert outcome.code == 3
    assert "w.pt of hf:me/small has changed since it was first downloaded" in outcome.err


def test_the_size_of_a_repository_is_said_before(command, hub, monkeypatch):
    monkeypatch.setattr("restore.commands.downloads.can_ask", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda text, **_: False)
    hub({"w.pt": bytes(3_000_000)})
    outcome = command("models", "get", "hf:me/small")
    assert outcome.code == 6
    assert "hf:me/small: 3 MB, the repository me/small of the Hugging Face hub" in outcome.err


@pytest.mark.parametrize("folder", ["", "unet/"])
def test_a_model_of_diffusers_on_the_hub(hub, monkeypatch, folder):
    """Safetensors before pickles, and what diffusers wrote of network and schedule beside them."""
    names = ("diffusion_pytorch_model.bin", "diffusion_pytorch_model.safetensors", "config.json")
    hub(
        {f"{folder}{name}": name.encode() for name in names}
        | {"scheduler/scheduler_config.json": b"{}"}
    )
    source = store.source_of("hf:me/small")
    found = store.install(source)
    assert sorted(found.files) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
        "scheduler_config.json",
    ]
    assert (found.folder / "config.json").read_bytes() == b"config.json"
    read = reader(monkeypatch)
    assert pretrained.load("hf:me/small").sha256 == hashlib.sha256(names[1].encode()).hexdigest()
    assert read == [(found.weights, None)]


def test_a_pipeline_on_the_hub(hub, server, command):
    """Its folders stay as they are; what it does not need is not downloaded."""
    index = {
        "_class_name": "LDMPipeline",
        "vqvae": ["diffusers", "VQModel"],
        "unet": ["diffusers", "UNet2DModel"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    weights = "diffusion_pytorch_model"
    needed = {
        "model_index.json": json.dumps(index).encode(),
        "scheduler/scheduler_config.json": b"{}",
        **{
            f"{part}/{name}": f"{part} {name}".encode() if name != "config.json" else b"{}"
            for part in ("unet", "vqvae")
            for name in ("config.json", f"{weights}.safetensors")
        },
    }
    hub({**needed, f"unet/{weights}.bin": b"x", "README.md": b"x", "whole.ckpt": b"x"})
    source = store.source_of("hf:me/small")
    found = store.install(source)
    assert set(found.files) == set(needed)
    assert {name: (found.folder / name).read_bytes() for name in needed} == needed
    assert found.size == sum(map(len, needed.values()))
    assert pretrained.pipeline_folder("hf:me/small") == found.folder
    assert command("models", "verify", "hf:me/small").code == 0
    assert command("models", "remove", "hf:me/small").code == 0
    assert not found.folder.exists()

    # its own digests say nothing: what was first downloaded is pinned, by folder and name
    hub({**needed, f"vqvae/{weights}.safetensors": b"other"})
    with pytest.raises(CheckpointError, match=rf"vqvae/{weights}\.safetensors of hf:me/small has"):
        store.install(source)


def test_pipelines_that_do_not_suit(hub):
    def install() -> Any:
        return store.install(store.source_of("hf:me/small"))

    hub({"model_index.json": b'{"_class_name": "CogVideoPipeline", "vae": ["a", "b"]}'})
    with pytest.raises(CheckpointError, match="class CogVideoPipeline, which is not known here"):
        install()
    index = b"""{"_class_name": "LDMPipeline", "vqvae": ["diffusers", "VQModel"],
        "unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDIMScheduler"]}"""
    hub({"model_index.json": index, "unet/config.json": b"{}", "unet/pytorch_model.bin": b"x"})
    with pytest.raises(CheckpointError, match=r"unet/pytorch_model\.bin: refused, for a pickle"):
        install()


def test_a_clip_model_on_the_hub(command, hub):
    """Safetensors with the tokenizer, and no pickle beside them."""
    needed = ("model.safetensors", "config.json", "vocab.json", "merges.txt", "tokenizer.json")
    hub({name: name.encode() for name in (*needed, "pytorch_model.bin", "README.md")})
    with pytest.raises(CheckpointError, match="hf:me/small is not installed"):
        pretrained.clip_folder("hf:me/small")
    found = store.install(store.source_of("hf:me/small"))
    assert sorted(found.files) == sorted(needed)
    assert pretrained.clip_folder("hf:me/small") == found.folder


def test_repositories_that_do_not_suit(hub, server):
    def listing() -> Any:
        return store.install(store.source_of("hf:me/small"))

    hub({"README.md": b"x"})
    with pytest.raises(CheckpointError, match="has not one file of weights, but 0"):
        listing()
    hub({"a.pt": b"x", "b.pt": b"y"})
    with pytest.raises(CheckpointError, match=r"but 2 \(a.pt, b.pt\); fetch the right one"):
        listing()
    server.files["/api/models/me/small/revision/main"] = b"[]"
    with pytest.raises(CheckpointError, match="does not answer as a hub"):
        listing()
    server.files["/api/models/me/small/revision/main"] = b"<html>"
    with pytest.raises(CheckpointError):
        listing()
    del server.files["/api/models/me/small/revision/main"]
    with pytest.raises(CheckpointError, match="404"):
        listing()


# Files and folders of one's own


def test_a_folder_of_diffusers(monkeypatch, tmp_path):
    read = reader(monkeypatch)
    with pytest.raises(CheckpointError, match="no diffusion_pytorch_model"):
        pretrained.load(str(tmp_path))
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text("{}")
    save_file({"x": torch.zeros(1)}, tmp_path / "unet" / "diffusion_pytorch_model.safetensors")
    pretrained.load(str(tmp_path))
    assert read == [(tmp_path / "unet" / "diffusion_pytorch_model.safetensors", None)]


def test_weights_without_a_description(command, tmp_path, picture):
    shutil.copy(pretrained.checkpoint_path("default"), tmp_path / "alone.safetensors")
    outcome = command("sr", picture(), "--model", tmp_path / "alone.safetensors")
    assert outcome.code == 3
    assert "alone.safetensors: weights of our own, whose description alone.json" in outcome.err


def test_convert(command, monkeypatch, listed, tmp_path):
    """The layouts' own writer is called with what is known of the file, and its refusals become
    exit codes.
    """
    called = []

    def convert(
        source: Path, target: Path, *, overwrite: bool = False, expected: Any = None
    ) -> None:
        called.append((source, target, overwrite, expected))
        if source.name == "bad.pt":
            raise CheckpointError("no layout has such keys")

    monkeypatch.setattr(layouts, "convert", convert)
    for name in ("w.pt", "bad.pt"):
        (tmp_path / name).write_bytes(DATA)
    out = tmp_path / "out.safetensors"
    assert command("models", "convert", tmp_path / "w.pt", out).code == 0
    assert called[0][:3] == (tmp_path / "w.pt", out, False)
    assert called[0][3]["backbone"] == {**WITHOUT, "channels": 32}
    out.touch()
    assert "--overwrite" in command("models", "convert", tmp_path / "w.pt", out).err
    assert command("models", "convert", tmp_path / "w.pt", out).code == 5
    assert command("models", "convert", tmp_path / "w.pt", out, "--overwrite").code == 0
    assert (
        "no layout has such keys"
        in command("models", "convert", tmp_path / "bad.pt", out, "--overwrite").err
    )
    assert command("models", "convert", tmp_path / "w.pt", tmp_path / "out.pt").code == 1
    for absent, said in (
        (tmp_path / "absent.pt", "no weights at"),
        ("tiny", "--yes downloads it"),
        ("tinny", "tiny?"),
    ):
        outcome = command("models", "convert", absent, out, "--overwrite")
        assert outcome.code == 3
        assert said in outcome.err
