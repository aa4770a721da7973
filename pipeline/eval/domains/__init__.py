"""Synthetic and real images compared: gap, coverage, copies, pictures of both."""
