"""How a person follows a command: progress, and interrupting it."""
