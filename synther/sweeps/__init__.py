"""A study of many runs is one YAML file; it becomes a plan of jobs, each a command of the project.

Read ``study`` (what a file can ask for; ``sections`` reads it strictly, ``algorithms`` finds the
algorithms that it names), then ``plan``, which turns the grids of a study into ``jobs``, and
``checks``, which tries every argument before anything starts. ``schedule`` says which job may start
when, ``execute`` does one in a process of its own (which ``launch`` ends with its parent), and
``ray_engine`` does many at a time; ``slurm_files`` writes job arrays instead. ``board`` shows a
person how far a study has come. ``subset`` is the one command that only studies use.
"""
