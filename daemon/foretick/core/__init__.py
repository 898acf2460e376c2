"""The pure core: numpy and torch only. No clock, no I/O, no logging, no settings; replayable from its inputs."""
