"""Run a sweep on Ray Tune.

Read `driver.py` (rounds of trials), `worker.py` (the process that trains) and `lease_watch.py` (trials that other
processes hold); `search.py` and `study.py` do the same for a search. `progress.py` defines the `Watcher` that the
display, the tracker and the gauges implement. `capacity.py`, `ray_session.py`, `retries.py` and `budget.py` deal with
Ray's resources, its start and end, lost processes, and limits of time and money.
"""
