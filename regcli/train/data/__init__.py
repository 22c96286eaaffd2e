"""Training data: subjects, their anatomies and the vocabulary of their label maps."""
