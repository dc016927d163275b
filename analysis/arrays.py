"""The array types that every wing shares."""

from collections.abc import Mapping
from typing import Any

import numpy as np

# In full: since numpy 2.5 NDArray is a name that jaxtyping cannot look behind.
Array = np.ndarray[tuple[Any, ...], np.dtype[np.float64]]
Indices = np.ndarray[tuple[Any, ...], np.dtype[np.intp]]
Words = np.ndarray[tuple[Any, ...], np.dtype[np.str_]]
Columns = Mapping[str, Array]
