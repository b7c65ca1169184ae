"""Where and how a network runs: devices, memory, tiles, progress."""
