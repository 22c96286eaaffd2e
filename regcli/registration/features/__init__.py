"""DIO: features that a network extracts from each image, which the solver then matches."""
