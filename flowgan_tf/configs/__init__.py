"""Configurations, one module per data set. Each docstring states commands, and the time and the numbers to expect."""
