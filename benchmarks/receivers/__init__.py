"""One program for each way of receiving. `meter` tells what they have in common."""
