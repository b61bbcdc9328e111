"""gadkit: how vision foundation models see what does not belong.

The package behind the book *Spot the Difference*.  Importing it is light: models, plots and the command line are
imported by the modules that need them.

Book: index
"""

__version__ = "0.1.0"
