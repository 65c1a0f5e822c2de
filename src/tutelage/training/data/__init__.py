"""Traces to gated, mixed training examples."""
