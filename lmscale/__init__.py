"""Train a ladder of small language models and log loss against compute.

`analysis`, beside this package, reads what it writes and imports nothing of it.
"""

from importlib.metadata import PackageNotFoundError, version

from lmscale import source_stamp as source_stamp  # before any other module: see there

try:
    __version__ = version("lmscale")
except PackageNotFoundError:  # a checkout on the path, not installed
    __version__ = "unknown"
