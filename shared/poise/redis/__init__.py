"""Redis: what the mesh keeps in it. The only importer of its client."""
