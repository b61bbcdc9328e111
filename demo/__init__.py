"""What the pages of the book run in the browser: `make` computes their data, the scripts beside it are their widgets.

Book: anomaly/neighbours
"""
