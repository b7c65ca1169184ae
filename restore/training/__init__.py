"""Train a model on a folder of images; `restore.training.trainer.train` starts a run."""
