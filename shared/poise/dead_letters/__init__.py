"""Dead letters: messages that could not be handled, kept whole with the reason; read, redriven and purged."""
