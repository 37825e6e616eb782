"""Search spaces by name, one per file; importing a file registers its space."""
