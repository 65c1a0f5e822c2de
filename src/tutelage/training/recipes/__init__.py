"""Ways to train a student: one visible loop a file."""
