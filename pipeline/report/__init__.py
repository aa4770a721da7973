"""What a run has written -> one HTML page."""
