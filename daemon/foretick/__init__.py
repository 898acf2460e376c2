"""foretick: online forecasting of live Redis streams."""

__version__ = "0.1.0"
