"""Configurations, one module per data set. Its docstring states commands, and the time and the numbers to expect."""
