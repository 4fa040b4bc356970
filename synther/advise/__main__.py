"""``python3 -m synther.advise DATA`` is ``synther advise DATA``."""

import sys

from synther.advise.command import main

if __name__ == "__main__":
    sys.argv[0] = "python3 -m synther.advise"  # its messages would begin with the name of this file
    main()
