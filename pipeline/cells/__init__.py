"""Trainings side by side, each an ordinary run, and the numbers they left."""
