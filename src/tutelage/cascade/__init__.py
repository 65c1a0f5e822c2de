"""Agreement of samples and the decision who serves a step."""
