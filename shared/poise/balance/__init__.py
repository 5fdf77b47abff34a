"""The balance act: a variant gets quietly worse under a stream of real asks; the mesh notices, moves, and lets it back."""
