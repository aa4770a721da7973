"""Which samples come when: seeding, order, and the stream of steps."""
