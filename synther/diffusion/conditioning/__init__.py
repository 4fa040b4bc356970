"""Here samples are asked for: with a high return, from one of two sources, near real rows.

Read ``condition.py`` first: what a model is conditioned on, the map of its values that the
checkpoint holds, and what may be asked for. ``guidance.py`` wraps the denoiser, so that every
sampler follows a condition more or less strongly; ``policy.py`` wraps it so that actions follow a
policy. ``values.py`` says what the condition is in each real row, such as the return that followed
it.
"""
