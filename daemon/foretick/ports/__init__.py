"""The outside world, one module a thing. Foreign errors become ours here."""
