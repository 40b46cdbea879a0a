"""What gapctl looks for in a cluster file, one concern per module."""
