"""Estimation of unknown blur kernels."""
