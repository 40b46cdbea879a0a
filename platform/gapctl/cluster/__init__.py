"""Clusters: describe and check cluster files, estimate costs, watch running costs, and submit jobs.

`cluster_files.py` reads a file for `ray up` or KubeRay's manifests into a `ClusterFile`. `lint.py` reports its risks,
`cost.py` estimates hours and money of a sweep on it, by the formulas of `trial_hours.py`. `running_cost.py` prices the
machines of a running Ray, and `jobs.py` submits sweeps to a running cluster.
"""
