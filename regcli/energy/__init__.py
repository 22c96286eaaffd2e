"""What aligned and plausible mean: similarities and regularizers."""
