"""The functions behind the programs of steps/. Each is idempotent: after a crash, it finds what it has recorded."""
