"""A fault drill: a sweep on a small Ray cluster of this machine, and accidents that befall it by a seeded schedule."""
