"""What is measured of the suite and its backends: how small a fault it sees, how fast they are."""
