"""What to ask of the operating system: pure values and functions, the same on every machine."""
