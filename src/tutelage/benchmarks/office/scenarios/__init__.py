"""What agents are asked to do in the office, by topic."""
