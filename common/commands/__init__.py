"""What a user asks for, from the options to the exit status."""
