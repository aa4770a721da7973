"""Results -> one HTML page."""
