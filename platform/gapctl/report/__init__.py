"""An analysis for people: figures, and one page that holds all of it and opens without a network."""
