"""Latent diffusion models of diffusers' pipelines: networks, autoencoders and texts.

diffusers and transformers are imported where a pipeline is loaded, and nowhere else in `restore`.
"""
