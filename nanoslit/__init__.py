"""Ion transport in nanoslit electrodes: field solver, law discovery, circuit model."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("nanoslit")
except PackageNotFoundError:  # used from a source tree that is not installed
    __version__ = "0+unknown"
