"""Model presets on open_clip, and the contrastive losses."""
