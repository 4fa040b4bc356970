"""Here a trained model generates new transitions.

Read ``generator.py`` first: it samples rows in batches, splits them into transitions, clips actions
and thresholds terminals, and fills an array, a tensor or a file. ``presets.py`` holds the named
ways to sample, ``drawing.py`` draws the rows of one request and ``asked.py`` holds what they are
asked for. ``consistency.py`` is the last stage, which makes the end of a row agree with its
beginning, and ``terminal_rate.py`` how it keeps the rate of terminals. ``rounds.py`` shares batches
out to processes, ``row_noise.py`` makes a row's noise independent of its batch, ``npz_stream.py``
writes millions of rows in bounded memory and survives interruption, ``graphed_network.py`` replays
the network as a CUDA graph, and ``on_the_fly.py`` generates rows while an agent trains on them.
"""
