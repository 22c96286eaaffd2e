"""Energies: similarities and regularizers."""
