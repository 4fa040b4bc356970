"""Studies of many runs: one YAML file becomes a plan of jobs, each a command of the project."""
