"""`python -m gadkit` is the `gadkit` command."""

import sys

from gadkit.cli import main

if __name__ == "__main__":
    sys.exit(main())
