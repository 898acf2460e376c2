"""`python -m foretick`."""

import sys

from foretick.cli import main

if __name__ == "__main__":
    sys.exit(main())
