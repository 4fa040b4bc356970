"""The main job in a few minutes on two CPU cores; ``make demo`` runs this file.

It is the command ``synther demo``, under the name that the README always had.
"""

from synther.demo import main

if __name__ == "__main__":
    main()
