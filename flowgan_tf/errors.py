"""The exception for mistakes that a user can mend."""


class UsageError(ValueError):
  """Something is wrong with what the user supplied: an argument, a file, a data set or a setting.

  The message is one line. It names the argument in backticks, or begins with the path of the file, and says what was
  expected and what was found. Programs print it and exit with status 2; to callers of the library it is an ordinary
  `ValueError`.
  """

  # Without this, AutoGraph would turn an error raised inside a tf.function into one of another class, many lines long.
  ag_pass_through = True
