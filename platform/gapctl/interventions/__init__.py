"""Closing the gap after training: fitted on one split, applied to another, judged by gap and quality."""
