"""What systems have in common that train all architectures at once, on shared weights."""
