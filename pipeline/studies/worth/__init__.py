"""What a teacher adds to real images."""
