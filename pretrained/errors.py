"""What can be wrong with a checkpoint."""


class CheckpointError(RuntimeError):
    """The checkpoint is missing, damaged, not understood or without a description; the text says
    which.
    """
