"""The balance act: a variant gets quietly worse under real asks; the mesh notices, moves away, and lets it back."""
