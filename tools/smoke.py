"""Install a wheel in a fresh environment and restore a picture with it, outside of the checkout.

    python tools/smoke.py dist/restore_diffusion-*.whl
    python tools/smoke.py --borrow dist/restore_diffusion-*.whl

The second takes the dependencies of the Python that runs it instead of installing them again.
"""

from __future__ import annotations

import argparse
import os
import struct
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zlib
from pathlib import Path

PACKAGES = ("operators", "pretrained", "restore")
SCALE = 2


def run(*words: object, cwd: Path) -> str:
    """Run a command that does not see this checkout and return its stdout.

    Raises:
        RuntimeError: If it fails; the text is its stderr.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    line = [str(word) for word in words]
    done = subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(line)}\nended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def fresh_environment(place: Path, wheel: Path, borrow: bool) -> Path:
    """Make an environment with the wheel in it and return its folder of programs."""
    venv.create(place, with_pip=True)
    programs = place / ("Scripts" if os.name == "nt" else "bin")
    install = [programs / "python", "-m", "pip", "install", "--quiet"]

    if borrow:
        paths = {"base": str(place), "platbase": str(place)}
        site = Path(sysconfig.get_path("purelib", vars=paths))
        # Folders named in a .pth file are searched, but their own .pth files are not read: an
        # editable installation that is there stays out of sight.
        (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
        install.append("--no-deps")

    run(*install, wheel, cwd=place)
    return programs


def grey_png(width: int, height: int) -> bytes:
    """Return a grey PNG that fades from the left to the right, of 8 bits."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    row = b"\0" + bytes(255 * x // width for x in range(width))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(row * height))
        + chunk(b"IEND", b"")
    )


def png_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def version_of(wheel: Path) -> str:
    """Return the version in the name of a wheel."""
    return wheel.name.split("-")[1]


def smoke(wheel: Path, borrow: bool) -> list[str]:
    """Install a wheel and restore a picture with the model inside it.

    Returns:
        The lines of ``restore --version``.

    Raises:
        RuntimeError: The wheel is not whole, or its command fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        programs = fresh_environment(place / "env", wheel.resolve(), borrow)

        for package in PACKAGES:
            found = run(
                programs / "python", "-c", f"import {package}; print({package}.__file__)", cwd=place
            )
            file = Path(found.strip())
            if not file.is_relative_to(place):
                raise RuntimeError(f"{package} comes from {file}, not from the wheel")
            if not (file.parent / "py.typed").exists():
                raise RuntimeError(f"{package} has no py.typed")

        said = run(programs / "restore", "--version", cwd=place).splitlines()
        if said[0] != f"restore {version_of(wheel)}":
            raise RuntimeError(f"{said[0]!r} is not the version of {wheel.name}")

        size = (24, 16)
        (place / "in.png").write_bytes(grey_png(*size))
        run(programs / "restore", "sr", "--scale", SCALE, "in.png", "out.png", cwd=place)
        restored = png_size((place / "out.png").read_bytes())
        if restored != (SCALE * size[0], SCALE * size[1]):
            raise RuntimeError(f"out.png is {restored[0]}x{restored[1]}")

    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument(
        "--borrow", action="store_true", help="use the dependencies that are installed here"
    )
    arguments = parser.parse_args()
    try:
        said = smoke(arguments.wheel, arguments.borrow)
    except RuntimeError as error:
        sys.exit(str(error))
    print(f"{arguments.wheel.name}: installed, and restored a picture; {', '.join(said)}")


if __name__ == "__main__":
    main()
