"""Demonstrations: embedding, index, bank, selection, harvest."""
