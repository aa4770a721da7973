"""Real images -> real shards."""
