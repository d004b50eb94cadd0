"""The version, apart from the package's metadata: a run from a source tree that was never installed has one too."""

__version__ = "0.1.0"
