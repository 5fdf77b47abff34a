"""The operating system: private directories and signals."""
