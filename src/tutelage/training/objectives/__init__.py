"""Training losses: one pure function a file, each with the signal that it needs."""
