"""Durable traces and episodes."""
