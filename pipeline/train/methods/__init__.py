"""The ways to train, a file for each."""
