"""Stand-ins for what a test cannot have: a Kubernetes namespace in memory."""
