"""Processes: started, followed, ended; workers that stay for the next request."""
