"""`python -m gadkit.bench` prints the table of measured speeds."""

import sys

from gadkit.bench import main

if __name__ == "__main__":
    sys.exit(main())
