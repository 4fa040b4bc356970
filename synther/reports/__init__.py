"""Finished runs become tables, learning curves and aggregate metrics.

Read ``runs`` first: it finds runs by the files that the commands left (``progress`` says how far
one has come). ``tables`` puts them into tables with the help of ``statistics`` and of the scores
that ``published`` knows, ``curves`` draws them, and ``render`` writes the files of a report.
"""
