"""Code shared by the systems that train all architectures at once, with shared weights."""
