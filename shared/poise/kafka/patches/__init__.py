"""Patches of aiokafka and FastStream: every use of their private names that replaces what they do.

Each module patches one thing and explains why. Each checks first, with `versions`, that the library is one it was
written for.
"""
