"""The public Python API: what `import gapctl` offers, over the same code as the verbs of the command line."""
