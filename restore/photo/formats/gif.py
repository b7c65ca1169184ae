"""GIF, which is only read."""

from __future__ import annotations

from restore.photo.formats.record import PictureFormat

GIF = PictureFormat("GIF", "GIF", (".gif",), lambda head: head.startswith((b"GIF87a", b"GIF89a")))
