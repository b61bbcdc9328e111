"""The course: what builds its notebooks from the book's sources, grades what comes back, and writes feedback."""
