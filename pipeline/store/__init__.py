"""The `shards` commands: look at the store, check and mend it, collect what nothing refers to."""
