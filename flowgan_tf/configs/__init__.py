"""One `get_config()` per data set; its docstring states the command, the expected time and the expected number."""
