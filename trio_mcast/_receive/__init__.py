"""What a program holds to receive by, and what moves datagrams to it from the machine."""
