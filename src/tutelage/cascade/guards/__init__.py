"""Vetoes that wrap any deferral policy."""
