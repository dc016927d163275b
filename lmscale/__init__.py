"""Train a ladder of small language models and log loss against compute.

`analysis`, beside this package, reads what it writes and imports nothing of it.
"""

from lmscale import source_stamp as source_stamp  # before any other module: see there
