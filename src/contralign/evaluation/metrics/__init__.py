"""Pure functions from outcomes to a number with its interval."""
