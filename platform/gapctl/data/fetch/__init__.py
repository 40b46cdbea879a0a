"""Getting data sets that others publish, checked, and without a half of a file ever looking whole."""
