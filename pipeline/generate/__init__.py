"""Teacher -> teacher shards."""
