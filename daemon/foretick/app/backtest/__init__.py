"""`foretick backtest`: the daemon's own engine over recorded ticks, scored as a stream would have been."""

from foretick.app.backtest.verb import run

__all__ = ["run"]
