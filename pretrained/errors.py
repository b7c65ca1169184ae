"""The error that checkpoints raise."""


class CheckpointError(RuntimeError):
    """A checkpoint is missing, damaged, of an unknown format or without a description."""
