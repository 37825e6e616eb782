"""External algorithms: the requests to programs and services, their replies, and how they are run. None is trusted."""
