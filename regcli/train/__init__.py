"""Training: cases, drawn images, losses and the loop."""
