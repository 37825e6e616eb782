"""Distances between networks, one per file."""
