"""What can be said, before hours are spent, about whether synthetic rows will help on a data set.

``features.py`` describes a data set by a few numbers, a small pilot model's among them.
``table.py`` reads the cells of the study (``benchmarks/when_does_it_help.py``). ``study.py`` finds
those that are near, and scores its own answers by leaving each data set out. ``calibration.py``
measures how long the work takes here, ``advice.py`` puts an answer together, and ``command.py`` is
the command.
"""
