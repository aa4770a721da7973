"""Student -> numbers."""
