"""Images drawn at random from label maps: their distribution, their shapes, and the scanner."""
