"""Do prompted generators' clips help? Mixes of real and synthetic clips, the class filter, and what is chosen."""
