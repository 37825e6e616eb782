"""How far networks are from each other, a distance a file."""
