"""How a training runs on hardware: launch, collectives, device and precision, state, metrics."""
