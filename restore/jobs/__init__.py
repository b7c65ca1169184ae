"""Restoration of many files: planning, order, output files and records."""
