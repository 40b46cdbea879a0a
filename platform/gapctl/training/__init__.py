"""Train one trial from its configuration to its metrics, without knowledge of Ray Tune or MLflow."""
