"""The one exception that stands for a user's mistake."""


class UsageError(ValueError):
  """Input that the user can mend: a flag, a file, a data set, a configuration.

  The message is one line that names the flag or the file, what was got and what is expected. Programs print it and exit
  with status 2; library callers see an ordinary `ValueError`.
  """

  # Inside a tf.function AutoGraph would replace it by an error that is no UsageError, over many lines.
  ag_pass_through = True
