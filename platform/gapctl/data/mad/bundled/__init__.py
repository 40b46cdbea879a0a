"""The digits that come with gapctl; LICENSE.md beside this file says whose they are."""
