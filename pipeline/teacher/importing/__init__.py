"""Other people's checkpoints as teachers, a file for each format; nothing in them is executed."""
