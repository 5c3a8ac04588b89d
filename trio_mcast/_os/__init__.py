"""The only place that touches the operating system: one file for each mechanism."""
