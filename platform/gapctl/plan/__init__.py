"""Plans: the trials of a sweep, what they cost, what they cannot decide, and how a command line gives them again."""
