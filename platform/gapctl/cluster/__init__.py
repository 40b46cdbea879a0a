"""Ray clusters before they start and jobs after: what is wrong with a cluster file, what it costs, sweeps as jobs."""
