"""What interventions on the gap came to: in words, in charts, and on one HTML page."""
