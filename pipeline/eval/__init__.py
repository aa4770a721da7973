"""Student -> results."""
