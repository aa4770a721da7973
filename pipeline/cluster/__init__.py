"""How work reaches Ray: connection, capacity, tasks, jobs, monitoring."""
