"""Model cards that measure themselves: each module here writes the figures of a card in `gadkit/assets` anew."""
