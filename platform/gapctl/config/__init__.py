"""The sweep file: its models, presets and metrics, how it is read, and what it must satisfy."""
