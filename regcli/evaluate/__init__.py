"""Measures of a registration, and the verdict."""
