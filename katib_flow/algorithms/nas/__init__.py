"""Neural architecture search: a file a system."""
