"""Other ways to save, to compare with: verification, judges, pools, static demonstrations."""
