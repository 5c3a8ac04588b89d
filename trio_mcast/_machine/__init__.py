"""The machine that everything above stands on: the only way to an operating system."""
