"""Stand-ins for systems that tests cannot have: a Kubernetes namespace, Argo Workflows and a store, all in memory."""
