"""Completions as comparable actions."""
