"""MLflow: show a sweep's trials and verdicts beside the ledger, which stays the record.

1. `run_contents.py` reads a trial from the ledger and builds its tags, parameters and columns.
2. `mlflow_sync.py` brings an experiment up to the ledger; `views.py` adds saved views and the sweep's description.
3. `tracker.py` does that in a thread during a sweep; `gapctl track sync` does it at once.
4. `store.py` opens MLflow's store and explains its errors; `server.py` runs MLflow's own server (`gapctl ui`).
"""
