"""What the book asks of exp in every number format: a file for each backend that answers."""
