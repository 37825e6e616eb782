"""The systems, one file per system: its paper, its settings, its suggestions and the training of its supernet."""
