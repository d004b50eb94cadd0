"""Watching and steering a run: the base class, and the callbacks that come with the library."""
