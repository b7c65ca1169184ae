"""Many photographs: what to do, in which order, in which files, and what was done."""
