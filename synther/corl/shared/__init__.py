"""The parts that the runs of all offline algorithms share.

``runner.py`` puts a run together out of the others: ``config.py`` and ``parsing.py`` are its
settings, ``buffer.py`` and ``normalizers.py`` its batches, ``refreshed.py`` those that follow the
agent, ``run_folder.py`` its files, ``result.py`` its outcome, and ``command.py`` its command line.
"""
