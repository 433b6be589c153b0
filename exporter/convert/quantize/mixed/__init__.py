"""Not all in int8: which layers cost most, which to leave in float, other schemes."""
