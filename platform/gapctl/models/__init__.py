"""Models on open_clip, their hand-written passes, and the contrastive losses."""
