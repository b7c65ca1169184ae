"""How much memory there is, and what it allows."""

from __future__ import annotations

import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.processes import value_of

import pretrained
from restore.backbone import BackboneConfig, build_backbone
from restore.diffusion.denoiser import ModelConfig, build_denoiser, split_state
from restore.errors import BadArgument
from restore.evaluate.meter import Meter
from restore.restorer import Restorer, load_denoiser
from restore.runtime.budget import (
    LARGEST_TILE,
    SHARE,
    SMALLEST_TILE,
    SOLVER_BYTES,
    Budget,
    derivative_bytes,
    network_bytes,
    parse_memory,
)
from restore.runtime.devices import (
    HOST,
    hand_back_freed_memory,
    keep_freed_memory,
    network_dtype,
    used_memory,
)
from restore.runtime.host_memory import available_memory, resident_memory
from restore.tasks import SuperResolution

GIB = 2**30
ROOT = Path(__file__).parents[2]
CONFIG = replace(
    ModelConfig.from_dict(pretrained.load("default").config),
    predictor=None,
    condition_picture="degraded",
)


# --- what a system tells
# ----------------------------------------------------------------------------------


def machine(root: Path, group: str = "0::/") -> Path:
    """A system with 8 GiB available, whose process takes 1 GiB, in a control group."""
    write(
        root / "proc/meminfo",
        f"MemTotal: {16 * GIB // 1024} kB\nMemAvailable:   {8 * GIB // 1024} kB\n",
    )
    sizes = "".join(f"{name}:\t {GIB // 1024} kB\n" for name in ("VmSize", "VmRSS", "VmData"))
    write(root / "proc/self/status", f"Name:\tpython\n{sizes}")
    write(root / "proc/self/cgroup", f"12:cpu,cpuacct:/other\n{group}\n")
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def version_2(level: Path, most: str, used: int, cache: int = 0) -> None:
    write(level / "memory.max", f"{most}\n")
    write(level / "memory.current", f"{used}\n")
    write(level / "memory.stat", f"anon 5\ninactive_file {cache}\n")


def version_1(level: Path, most: int, used: int, cache: int = 0) -> None:
    write(level / "memory.limit_in_bytes", f"{most}\n")
    write(level / "memory.usage_in_bytes", f"{used}\n")
    write(level / "memory.stat", f"inactive_file 7\ntotal_inactive_file {cache}\n")


def test_what_the_system_has_left(tmp_path: Path) -> None:
    assert available_memory(machine(tmp_path)) == 8 * GIB
    assert resident_memory(tmp_path) == GIB


def test_a_control_group_limits(tmp_path: Path) -> None:
    machine(tmp_path, "0::/user/job")
    version_2(tmp_path / "sys/fs/cgroup/user/job", str(4 * GIB), 2 * GIB, cache=GIB // 2)
    assert available_memory(tmp_path) == 5 * GIB // 2


def test_a_control_group_above_limits_too(tmp_path: Path) -> None:
    machine(tmp_path, "0::/user/job")
    version_2(tmp_path / "sys/fs/cgroup/user/job", "max", 2 * GIB)
    version_2(tmp_path / "sys/fs/cgroup/user", str(3 * GIB), 2 * GIB)
    assert available_memory(tmp_path) == GIB


def test_a_container_sees_its_own_group_as_the_top(tmp_path: Path) -> None:
    """Its path is that of the host, and does not exist inside."""
    machine(tmp_path, "4:memory:/docker/0123")
    version_1(tmp_path / "sys/fs/cgroup/memory", 2 * GIB, GIB // 2)
    assert available_memory(tmp_path) == 3 * GIB // 2


def test_a_control_group_of_version_1(tmp_path: Path) -> None:
    machine(tmp_path, "4:hugetlb,memory:/a/b")
    version_1(tmp_path / "sys/fs/cgroup/memory/a/b", 3 * GIB, 2 * GIB, cache=GIB)
    version_1(tmp_path / "sys/fs/cgroup/memory/a", 2**63 - 4096, 2 * GIB)
    assert available_memory(tmp_path) == 2 * GIB


def test_what_is_overdrawn_is_nothing(tmp_path: Path) -> None:
    machine(tmp_path)
    version_2(tmp_path / "sys/fs/cgroup", str(GIB), 2 * GIB)
    assert available_memory(tmp_path) == 0


@pytest.mark.parametrize("kind", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_limits_of_the_process_count(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {getattr(resource, kind): (3 * GIB, resource.RLIM_INFINITY)}
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits.get(which, unlimited))
    assert available_memory(machine(tmp_path)) == 2 * GIB


def test_a_real_limit_is_seen() -> None:
    code = (
        "import resource; from restore.runtime.host_memory import available_memory as left; before "
        "= left()\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({GIB}, {GIB})); print(before, left())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    before, after = map(int, done.stdout.split())
    assert 0 < after < min(before, GIB)


def test_a_system_that_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "os.sysconf", lambda name: {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": GIB // 2048}[name]
    )
    assert available_memory(tmp_path) == GIB
    assert resident_memory(tmp_path) > 0


# --- what it allows
# ---------------------------------------------------------------------------------------


def test_tiles_fit_what_a_picture_leaves() -> None:
    budget = Budget(memory=GIB, per_pixel=1000.0)
    assert budget.tile(0) == 1036
    assert budget.tile(10**6) == int(((GIB - SOLVER_BYTES * 10**6) / 1000) ** 0.5)
    assert budget.tile(10**9) == int((GIB // 4 / 1000) ** 0.5)
    assert Budget(10**6, 1000.0).tile(0) == SMALLEST_TILE
    assert Budget(10**12, 1000.0).tile(0) == LARGEST_TILE


def test_batches_fit_too() -> None:
    assert Budget(10**9, 1000.0, batches=True).at_once(256, 0) == 10**6
    assert Budget(10**9, 1000.0).at_once(256, 0) == 256**2
    assert Budget(10**6, 1000.0, batches=True).at_once(256, 0) == 256**2


def test_a_picture_lies_on_the_device_if_it_takes_no_more_than_half() -> None:
    device = torch.device("cuda")
    budget = Budget(memory=200 * SOLVER_BYTES, per_pixel=1000.0)
    assert budget.place(100, device) == device
    assert budget.place(101, device) == torch.device("cpu")


@pytest.mark.parametrize(
    ("memory", "expected"), [(4 * 16 * 24 * SOLVER_BYTES, []), (16 * 24 * SOLVER_BYTES, ["back"])]
)
def test_a_picture_that_fills_the_memory_wastes_none(
    memory: int, expected: list[str], monkeypatch: pytest.MonkeyPatch, loaded_once: None
) -> None:
    """What the command lets the C library keep goes back to the system."""
    done: list[str] = []
    monkeypatch.setattr("restore.restorer.hand_back_freed_memory", lambda: done.append("back"))
    restorer = Restorer(device="cpu")
    restorer.budget = Budget(memory, per_pixel=1000.0)
    restorer.problem(SuperResolution(2), torch.zeros(1, 3, 8, 12))
    assert done == expected


@pytest.mark.skipif(sys.platform != "linux", reason="concerns glibc")
def test_memory_is_kept_and_handed_back() -> None:
    kept, handed_back = value_of(_used_after_a_tensor)
    assert kept - handed_back > 150e6


def _used_after_a_tensor() -> tuple[int, int]:
    """Return the memory in use after a tensor, while freed memory is kept and once it is not."""

    def used() -> int:
        torch.ones(50_000_000)
        return used_memory(HOST)

    keep_freed_memory()
    kept = used()
    hand_back_freed_memory()

    return kept, used()


def test_a_limit_that_is_asked_for_counts() -> None:
    denoise = build_denoiser(CONFIG, split_state(pretrained.load("default").state)[0])
    free = Budget.of(denoise)
    limit = used_memory(denoise.device) + 2 * 10**9
    assert free.memory > Budget.of(denoise, str(limit)).memory > 10**8
    assert free.per_pixel == network_bytes(CONFIG.backbone, torch.float32)
    assert not free.batches
    with pytest.raises(
        BadArgument, match=r"`memory`=1MB: too little; the program takes \d+ MB by itself"
    ):
        Budget.of(denoise, "1MB")


def test_a_larger_network_takes_more() -> None:
    small, wide = (BackboneConfig(channels=c, norm="rms") for c in (64, 128))
    assert network_bytes(wide, torch.float32) == 2 * network_bytes(small, torch.float32)
    assert network_bytes(small, torch.bfloat16) < network_bytes(small, torch.float32)


LEAN = BackboneConfig(
    layout="lean",
    channels=64,
    channel_multipliers=(1, 2, 4),
    middle_attention=False,
    norm="rms",
    patch=2,
)


@pytest.mark.skipif(sys.platform != "linux", reason="peaks can be asked for on Linux")
@pytest.mark.parametrize("dtype", sorted({torch.float32, network_dtype(HOST)}, key=str))
@pytest.mark.parametrize(
    "config", [CONFIG, replace(CONFIG, backbone=LEAN)], ids=["default", "lean"]
)
def test_a_network_takes_what_is_expected(config: ModelConfig, dtype: torch.dtype) -> None:
    """In a process of its own, in the number formats that networks have here: not less than half,
    and not so much more that the share left free is exceeded."""
    expected = network_bytes(config.backbone, dtype)
    assert expected / 2 < value_of(_bytes_per_pixel, config, dtype, 640) < expected / SHARE


def _bytes_per_pixel(config: ModelConfig, dtype: torch.dtype, side: int) -> float:
    """Return the peak memory of the network with a square picture, per pixel."""
    denoise = build_denoiser(config, build_backbone(config.backbone).state_dict(), "cpu", dtype)
    x = torch.zeros(1, 3, side, side)
    with torch.inference_mode():
        denoise(x[..., :64, :64], 1.0)
        with Meter(HOST) as meter:
            denoise(x, 1.0)

    assert meter.memory is not None
    return 2**20 * meter.memory / side**2


@pytest.mark.skipif(sys.platform != "linux", reason="peaks can be asked for on Linux")
def test_a_derivative_takes_what_is_expected() -> None:
    """The network forwards and back again, as the likelihood has it."""
    assert 0.6 < value_of(_derivative_over_expected, 320) < 1 / SHARE


def _derivative_over_expected(side: int) -> float:
    """Return the peak memory of a derivative as a multiple of the expected."""
    denoise = load_denoiser("default", HOST, torch.float32)
    x = torch.zeros(1, 3, side, side, requires_grad=True)
    with Meter(HOST) as meter:
        denoise(x, 1.0).noise.sum().backward()

    assert meter.memory is not None
    return 2**20 * meter.memory / side**2 / derivative_bytes(denoise)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4 * 10**9),
        ("500M", 5 * 10**8),
        ("1.5GiB", 3 * 2**29),
        ("2 Gi", 2 * GIB),
        ("10kb", 10**4),
        ("7000", 7000),
    ],
)
def test_sizes_of_memory(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-4GB", "4XB", "0GB", "4 G B", "1e9", "iB", "4i"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(BadArgument, match="`memory`"):
        parse_memory(text)
