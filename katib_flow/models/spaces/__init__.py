"""Search spaces by name, a file each; importing a file registers its space."""
