"""Close the gap after training: fit interventions on one split, apply them to another, and judge gap and quality."""
