"""The command line: one thin module for each verb, which parses, calls and prints."""
