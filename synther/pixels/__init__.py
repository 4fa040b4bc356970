"""SynthER in the latent space of a visual agent: pictures -> latents -> transitions like any other.

A convolutional encoder and two small trunks turn stacks of pictures into latents (DrQ+BC,
``drq_bc.py``); ``encode.py`` makes latent transitions of a data set, the diffusion model upsamples
them, and policy and Q heads go on training on them (``latent_agent.py``).
"""
