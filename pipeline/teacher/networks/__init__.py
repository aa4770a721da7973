"""The networks of a teacher, a file for each family."""
