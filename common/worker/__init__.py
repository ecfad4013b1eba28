"""What runs in a framework's interpreter: a plan in, a record out."""
