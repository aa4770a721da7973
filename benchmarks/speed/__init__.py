"""How fast each part is, beside named rivals and beside what the device can do."""
