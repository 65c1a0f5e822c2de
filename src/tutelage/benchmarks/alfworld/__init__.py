"""The ALFWorld text games, played by their own engine."""
