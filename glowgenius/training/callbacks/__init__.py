"""The callback base class, and the callbacks that come with the library."""
