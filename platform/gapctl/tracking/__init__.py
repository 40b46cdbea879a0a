"""MLflow as a view of the ledger: filled in while trials run, and rebuilt from the ledger at any time."""
