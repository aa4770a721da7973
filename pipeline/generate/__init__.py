"""Teacher -> teacher shards: images and pooled features, rendered once."""
