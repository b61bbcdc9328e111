"""The categories: each file registers some in the catalogue."""
