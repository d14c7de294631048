"""Tables as a reader sees them."""

from flowgan_tf.display.tables import Table


def cells(table: Table) -> list[dict[str, str]]:
  """What each row shows, by the headers of the columns."""
  return [{column.header: column.text(row) for column in table.columns} for row in table.rows]
