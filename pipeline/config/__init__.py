"""What a run is: a frozen model for each section, and reading them from a file and overrides."""
