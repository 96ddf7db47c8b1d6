"""Figures: each function takes a table and returns the axes it drew on, one figure a file."""
