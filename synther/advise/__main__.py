"""``python3 -m synther.advise DATA`` is ``synther advise DATA``."""

from synther.advise.command import main

if __name__ == "__main__":
    main()
