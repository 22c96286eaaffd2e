"""Families of maps, each with one parameter tensor."""
