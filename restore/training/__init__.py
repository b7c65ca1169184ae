"""Training: pictures in, a run folder with a model out. `restore.training.trainer.train` is the way
in.
"""
