"""The balance act: a variant gets worse without errors; the mesh detects it, moves weight away and later back."""
