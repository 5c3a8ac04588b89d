"""What to ask of an operating system for a socket, as values, and what each system can do. Pure."""
