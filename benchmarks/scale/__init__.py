"""What grows with the number of shards, and what large pools take: docs/scaling.md."""
