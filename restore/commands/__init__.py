"""The sub-commands of `restore`: options in, one call, an exit code out."""
