"""What our own code costs, measured side by side in one run."""
