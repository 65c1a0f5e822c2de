"""Students trained from traces."""
