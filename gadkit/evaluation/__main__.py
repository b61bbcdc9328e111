"""`python -m gadkit.evaluation NAME... --out book/results/representations.json` measures representations."""

import sys

from gadkit.evaluation.protocol import evaluate
from gadkit.evaluation.results import main

if __name__ == "__main__":
    sys.exit(main("representation", evaluate))
