"""Decisions in time: what to do, in which order, and when to stop."""
