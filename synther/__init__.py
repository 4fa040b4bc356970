"""Synthetic Experience Replay: diffusion-upsampled transitions for reinforcement learning."""

import os as _os

# Threads that wait for each other at the end of every product spin for milliseconds by default. As
# soon as another process holds a core they wait out whole time slices that way, and small networks
# train some thirty times slower. Read when torch loads its OpenMP library, so it must be set first.
_os.environ.setdefault("GOMP_SPINCOUNT", "1000")
