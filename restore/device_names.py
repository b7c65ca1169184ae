"""Names of the devices that pictures are restored on; `restore.runtime.devices` knows the rest."""

from __future__ import annotations

# Device on which files are read and written.
CPU = "cpu"
# Kinds of devices, as PyTorch names them.
KINDS = (CPU, "cuda", "mps")
# What the option ``device`` takes, for completion and in words.
CHOICES = ("auto", *KINDS)
CHOICES_IN_WORDS = "auto, cpu, cuda, cuda:N or mps"
