"""restore: image restoration with one diffusion prior (lazily imported)."""
