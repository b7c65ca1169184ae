"""Measures of quality and of noise, and the classical methods that others are compared with."""
