"""Trainings that differ in one thing: the quality of the teacher, or the size of the pool."""
