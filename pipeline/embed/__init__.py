"""A student put to use: images -> their representations, and the nearest among them."""
