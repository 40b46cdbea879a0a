"""The sweep file: its typed models, where each of its values stands, and what is wrong with it."""
