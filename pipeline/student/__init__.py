"""What is trained and used: the backbone, the views that it sees, its representations."""
