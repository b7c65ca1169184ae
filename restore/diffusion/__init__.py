"""Forward process and the network that reverses it: schedules, denoiser, guidance, likelihood.

`protocol` has the interface of a denoiser, which is all that samplers and solvers know of it.
"""
