"""Command-line programs: flags, and one call."""
