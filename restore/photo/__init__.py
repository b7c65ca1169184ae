"""A photograph as people have it: files and arrays in, tensors out, and back."""
