"""Dead letters: unhandled messages, stored whole with the reason, that can be read, redriven and purged."""
