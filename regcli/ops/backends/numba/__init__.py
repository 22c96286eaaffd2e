"""Compiled loops over volumes held by numpy arrays; each runs on slabs of the first axis."""
