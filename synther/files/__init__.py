"""Files of the project appear whole or not at all, and reading them never executes anything.

Read ``atomic.py`` first: a file takes the place of an earlier one only when all of it is on the
disk. ``npz.py`` (arrays) and ``checkpoint.py`` (tensors and plain values) write through it, and
refuse a file that is truncated, damaged, or holds code. Nothing here knows what the files mean.
"""
