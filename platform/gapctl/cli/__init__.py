"""The command line: one thin module per verb, which parses, calls and prints."""
