"""A built-in household world, pure Python."""
