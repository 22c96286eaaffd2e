"""What a registration is: forces, levels and their wiring."""
