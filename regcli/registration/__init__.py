"""Registering a pair: how images are prepared, compared, and mapped onto each other."""
