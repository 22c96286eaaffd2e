"""Training of feature networks (dio)."""
