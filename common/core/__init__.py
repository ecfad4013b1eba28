"""What everything stands on: errors, arrays, files, the cache, processors. No room is below it."""
