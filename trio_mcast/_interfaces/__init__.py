"""Which interfaces are meant, and what is to be done when they change. Pure."""
