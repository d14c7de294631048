"""Command-line programs: each defines flags and makes one call into the library."""
