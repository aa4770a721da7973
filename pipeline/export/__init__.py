"""A run's student as a folder that a stranger can use."""
