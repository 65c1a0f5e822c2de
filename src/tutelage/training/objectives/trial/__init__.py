"""Every objective against plain fine-tuning in a toy world whose right answers are known."""
