"""What `gapctl doctor` looks at: one check is one question about this machine, with an answer and a fix."""
