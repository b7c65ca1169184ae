"""Damaged files end as errors of this package, whatever reads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.benchmark_scripts import benchmark

fuzz = benchmark("fuzz", folder="tools")
kinds = pytest.mark.parametrize("kind", fuzz.READERS)


@kinds
def test_damaged_inputs(kind) -> None:
    tally = fuzz.fuzz(kind, 60)
    assert tally.faults == []
    assert tally.inputs >= 60 // fuzz.READERS[kind].slowness


@pytest.mark.slow
@kinds
def test_many_damaged_inputs(kind) -> None:
    tally = fuzz.fuzz(kind, 5000, number=1)
    assert tally.faults == []
    assert tally.read > 0
    assert tally.refused + tally.read >= 5000 // fuzz.READERS[kind].slowness


def test_a_fault_is_found_and_its_input_kept(monkeypatch, tmp_path) -> None:
    """A reader that fails on what is cut off within its first half."""

    def read(path: Path) -> None:
        if path.stat().st_size < len(fuzz.corpus_of("masks")[0][1]) // 2:
            raise KeyError("short")

    monkeypatch.setitem(fuzz.READERS, "masks", replace(fuzz.READERS["masks"], read=read))
    tally = fuzz.fuzz("masks", 200, keep=tmp_path / "kept")
    assert tally.faults
    assert set(tally.faults) <= {f"masks{s}: KeyError: 'short'" for s in (".png", ".jpg", ".tif")}
    kept = list((tmp_path / "kept").iterdir())
    assert len(kept) == len(tally.faults)
    for path in kept:
        with pytest.raises(KeyError):
            read(path)
