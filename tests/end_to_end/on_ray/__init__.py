"""Commands on Ray; a package, for whose length one session lasts."""
