"""Values and small means that every room may use: interfaces, datagrams, statuses, errors."""
