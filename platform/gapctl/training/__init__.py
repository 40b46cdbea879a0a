"""One trial from its configuration to its metrics; knows neither Ray Tune nor MLflow."""
