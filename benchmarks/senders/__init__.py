"""One program for each way of sending. `meter` tells what they have in common."""
