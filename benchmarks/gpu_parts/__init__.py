"""The parts of ``gpu_check.py``, one module each, and what they share.

``check.py`` keeps what was found, ``subjects.py`` has everything that learns in one form, so that a
part can go through all of it. Each part has a function ``run(check)``.
"""
