"""Train a model on a folder of pictures; `restore.training.trainer.train` starts a run."""
