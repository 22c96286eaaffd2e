"""Training by several processes: which one this is (without torch), and what they do together."""
