"""Katib's own gRPC API: its messages, and calls of its services."""
