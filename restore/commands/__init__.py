"""Sub-commands of `restore`: each parses options, makes one call and ends with an exit code."""
