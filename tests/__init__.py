"""The test suite; a package, because other distributions install one of the same name."""
