"""A file a system: its paper, its settings, what it proposes, and how it trains a supernet where it has one."""
