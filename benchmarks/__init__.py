"""What receiving and sending cost, here and with other libraries: ``python -m benchmarks``."""
