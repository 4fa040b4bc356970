"""Every command of the project needs these modules, whatever it trains.

Read ``commands.py`` first: it ends a command in success, or with one line that says what to do;
``interrupts.py`` is for Ctrl-C at odd moments.
``settings.py`` and ``gin_config.py`` read the settings of a run from YAML files, gin files and
command lines. ``folder.py`` claims the run's folder and decides whether ``--resume`` goes on with
the run in it; ``loggers.py`` writes its metrics there. ``runtime.py`` is the device, threads and
seeds that it runs with, ``clock.py`` its time, and ``processes.py`` the other processes that share
its work.
"""
