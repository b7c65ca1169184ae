"""The line of a picture in a manifest or journal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from restore import __version__
from restore.files import Fingerprint, is_temporary


@dataclass(frozen=True)
class Entry:
    """The line of a picture.

    Attributes:
        input: path below the input folder, with forward slashes; undecodable bytes as in
            `os.fsdecode`.
        fingerprint: fingerprint of the input.
        options: everything that decides the result: task, arguments, method, seed, model, output
            format.
        outputs: paths below the output folder.
        seconds: time in the solver.
        status: ``done`` or ``failed``; in the journal ``begun``.
        error: reason of a failure.
        version: version of restore.
        written: fingerprints of the outputs; empty in the lines of older versions.
        temporaries: paths of the outputs before they get their names, in the journal.
        kernels: what was found about an unknown blur, see `restore.blind.estimate.Finding`.
        damage: what was found of scratches, see `restore.blind.scratches.Damage`.
    """

    input: str
    fingerprint: Fingerprint
    options: Mapping[str, Any]
    outputs: Sequence[str] = ()
    seconds: float = 0.0
    status: Literal["begun", "done", "failed"] = "done"
    error: str = ""
    version: str = field(default=__version__)
    written: Sequence[Fingerprint] = ()
    temporaries: Sequence[str] = ()
    kernels: Sequence[Mapping[str, Any]] = ()
    damage: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def read(cls, line: str) -> Entry | None:
        """Parse a line; None if it is not a complete line of a manifest."""
        try:
            table = json.loads(line)
            known = {f.name: table[f.name] for f in fields(cls) if f.name in table}
            known["fingerprint"] = Fingerprint(**known["fingerprint"])
            known["written"] = [Fingerprint(**one) for one in known.get("written", [])]
            entry = cls(**known)
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        return entry if entry._is_sound() else None

    def write(self) -> str:
        """Return the line, with its end."""
        table = asdict(self)
        for name in ("temporaries", "kernels", "damage"):
            if not table[name]:
                del table[name]
        return json.dumps(table, sort_keys=True) + "\n"

    @property
    def moment(self) -> int:
        """Time at which the outputs were written, in nanoseconds; 0 if unknown."""
        return max((one.mtime_ns for one in self.written), default=0)

    def _is_sound(self) -> bool:
        """Return True if the values have the types and places that they should have."""
        known = isinstance(self.input, str) and isinstance(self.options, dict)
        if not known or self.status not in ("begun", "done", "failed"):
            return False
        if not isinstance(self.seconds, int | float) or not isinstance(self.error, str):
            return False
        if not all(_is_fingerprint(one) for one in (self.fingerprint, *self.written)):
            return False
        if not all(isinstance(found, list | tuple) for found in (self.kernels, self.damage)):
            return False
        if not isinstance(self.outputs, list) or not all(map(_is_below, self.outputs)):
            return False

        return len(self.written) in (0, len(self.outputs)) and self._has_sound_temporaries()

    def _has_sound_temporaries(self) -> bool:
        """Return True if each file that waits for a name is one of ours, beside that name."""
        if self.status != "begun":
            return True
        if not isinstance(self.temporaries, list) or not all(map(_is_below, self.temporaries)):
            return False
        if not len(self.temporaries) == len(self.written) == len(self.outputs) > 0:
            return False

        pairs = zip(self.temporaries, self.outputs, strict=True)
        return all(
            PurePosixPath(temporary).parent == PurePosixPath(output).parent
            and is_temporary(PurePosixPath(temporary).name)
            for temporary, output in pairs
        )


def _is_fingerprint(one: Fingerprint) -> bool:
    numbers = isinstance(one.size, int) and isinstance(one.mtime_ns, int)
    return numbers and isinstance(one.sha256, str)


def _is_below(name: Any) -> bool:
    """Return True for the path of a file below a folder."""
    if not isinstance(name, str) or not name or "\0" in name:
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and not Path(name).is_absolute()
