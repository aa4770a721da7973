"""The `shards` commands: look at the store, check and repair it, collect what nothing uses."""
