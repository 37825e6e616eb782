"""What the programs of steps/ call. Each function is idempotent: run again after a crash, it finds what it recorded."""
