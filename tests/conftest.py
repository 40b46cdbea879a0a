"""What holds for all tests: none asserts a timing, also not the single examples of a property test."""

from hypothesis import settings

settings.register_profile("gapctl", deadline=None)
settings.load_profile("gapctl")
