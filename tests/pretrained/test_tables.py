"""Tables are read within bounds, and refused with a reason."""

from __future__ import annotations

import json
import os

import pytest

from pretrained import tables
from pretrained.tables import BadTable, parse_json, parse_toml, read_json, read_toml

DEEP = 20_000
DIGITS = "9" * 5000


def test_what_is_written_is_read(tmp_path) -> None:
    path = tmp_path / "t.json"
    path.write_text('{"a": [1, -9223372036854775807, 2.5, "é", null, true]}', encoding="utf-8")
    assert read_json(path) == {"a": [1, -(2**63) + 1, 2.5, "é", None, True]}
    (tmp_path / "t.toml").write_text('[a]\nb = [1, "é"]', encoding="utf-8")
    assert read_toml(tmp_path / "t.toml") == {"a": {"b": [1, "é"]}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = " + "[" * DEEP, "not TOML"),
        ("a = " + "[" * DEEP + "]" * DEEP, "not TOML that can be read: nested too deeply"),
        ("a." * DEEP + "b = 1", "a key of more than 64 parts"),
        ("a . " * 65 + "b = 1", "a key of more than 64 parts"),
        (f"a = {DIGITS}", "not TOML: a whole number of thousands of digits"),
        (f"a = [1, {{b = {10**19}}}]", r"beyond ±2\^63"),
        ("a = ", "not TOML: "),
    ],
)
def test_bad_toml(text, said) -> None:
    with pytest.raises(BadTable, match=said):
        parse_toml(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        (DIGITS, "not JSON: a whole number of thousands of digits"),
        (json.dumps({"a": [-(10**30)]}), r"beyond ±2\^63"),
        ("", "not JSON: "),
    ],
)
def test_bad_json(text, said) -> None:
    with pytest.raises(BadTable, match=said):
        parse_json(text)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_and_folders_are_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadTable, match="not a regular file"):
        read_json(tmp_path / "pipe")
    with pytest.raises(OSError):  # noqa: PT011  # its text is the system's
        read_json(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_toml(tmp_path / "none")


def test_files_beyond_a_bound(tmp_path, monkeypatch) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadTable, match="not a text file in UTF-8"):
        read_json(path)
    monkeypatch.setattr(tables, "LARGEST", 2**20)
    path.write_text(" " * 2**20 + "1")
    with pytest.raises(BadTable, match="larger than 1 MB"):
        read_json(path)
