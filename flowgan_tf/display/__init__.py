"""How things look: figures and their axes. Knows no runs."""
