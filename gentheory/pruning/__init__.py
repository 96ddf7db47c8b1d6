"""Pruning by a criterion that needs no validation split, whatever runs the trials."""
