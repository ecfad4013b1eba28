"""What runs in a framework's interpreter: a request in, a record out."""
