"""Distances between sets of vectors."""
