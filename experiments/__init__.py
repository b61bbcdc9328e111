"""Measurements too long for a page: each module here is a command whose results file lies in `book/results`."""
