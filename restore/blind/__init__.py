"""Estimation of what is unknown about a degradation: blur kernels, scratches and dust."""
