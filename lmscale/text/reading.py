"""The documents of a source that have text, counted, up to data.most_bytes."""

from collections.abc import Iterator
from typing import Any

from lmscale.config import DataConfig
from lmscale.text.documents import Document, documents
from lmscale.text.meter import Meter, bar


def texts(data: DataConfig, read: dict[str, Any]) -> Iterator[tuple[Document, bytes]]:
    """Read the documents, each with its text.

    `read` gets their bytes, the number of those without text, and, where data.most_bytes stopped, what is left.
    """
    read |= {"bytes": 0, "null_texts": 0, "empty_texts": 0}
    meter = Meter()
    with bar(f"reading {data.name}") as move:
        for document in (found := documents(data, meter)):
            move(meter)
            if not document.data:
                read["null_texts" if document.data is None else "empty_texts"] += 1
                continue
            yield document, document.data
            read["bytes"] += len(document.data)
            if data.most_bytes is not None and read["bytes"] >= data.most_bytes:
                left = meter.left_out()
                if next(found, None):
                    read["left_out"] = left
                return
