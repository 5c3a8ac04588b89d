"""What a program holds to send by, and what keeps its sockets fit for it."""
