"""The digits that come with gapctl; their license is in LICENSE.md beside this file."""
