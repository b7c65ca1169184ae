"""The forward process and the network that reverses it: noise schedules, the denoiser, guidance,
likelihood.
"""
