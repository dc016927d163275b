"""Where text comes from: documents, one after the other, never all in memory; and what identifies them.

The standard library, installed packages, a person's files (text, JSONL, Parquet, each also gzipped), or a
dataset of the Hugging Face hub, streamed.
"""

import glob
import gzip
import io
import json
import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from lmscale.config import DataConfig
from lmscale.errors import UserError

# tests repeat themselves; encodings and pydoc_data are generated tables
SKIPS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "encodings", "pydoc_data"}
PACKAGES = ("hydra-core", "jax", "flax", "optax", "numpy", "pandas", "pyarrow", "scipy", "matplotlib", "rich")
PIECE = 64 * 1024  # bytes: plain text is cut at line ends into documents of about this length


class Document(NamedTuple):
    """A text that is trained on or held out as a whole. name: where it came from, for messages."""

    name: str
    data: bytes
    python: bool


def documents(data: DataConfig) -> Iterator[Document]:
    """Every document of the configured source. UserError names the file, and the line or row, that is bad."""
    if data.kind == "stdlib":
        yield from _standard_library()
    elif data.kind == "packages":
        yield from _standard_library()
        for name in PACKAGES:
            yield from _package(name)
    elif data.kind == "text":
        for path in find_files(data.files):
            yield from _file(path, data.field)
    else:
        yield from _hub(data)


def fingerprint(data: DataConfig) -> list[Any]:
    """What a corpus depends on besides its configuration; the same as long as the source is unchanged.

    Reads no text: versions of packages, and names, sizes and times of files. A hub dataset is taken as it was
    when it was scanned.
    """
    if data.kind == "stdlib":
        return [sys.version.split()[0]]
    if data.kind == "packages":
        return [sys.version.split()[0], *(f"{name} {_version(name)}" for name in PACKAGES)]
    if data.kind == "text":
        return _stats(data.files)
    return [data.dataset, data.subset, data.split, *_stats(data.files)]


def _stats(patterns: tuple[str, ...]) -> list[Any]:
    return [[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in find_files(patterns)]


def find_files(patterns: tuple[str, ...]) -> list[Path]:
    """The files that paths and glob patterns name, sorted; UserError for a pattern that names none."""
    found: set[Path] = set()
    for pattern in patterns:
        # Path.glob refuses absolute patterns
        matches = [Path(p) for p in glob.glob(str(Path(pattern).expanduser()), recursive=True)]  # noqa: PTH207
        files = [path.resolve() for path in matches if path.is_file()]
        if not files:
            raise UserError(
                f"data.files={pattern}: no such file; give a path or a pattern such as texts/*.txt"
            )
        found.update(files)
    return sorted(found)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        raise UserError(
            f"data.kind=packages: {name} is not installed; pip install it, or use stdlib"
        ) from None


def _standard_library() -> Iterator[Document]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if not SKIPS.intersection(parts) and path.is_file():
            yield Document("/".join(parts), path.read_bytes(), python=True)


def _package(name: str) -> Iterator[Document]:
    _version(name)
    for file in metadata.files(name) or []:
        if file.suffix == ".py" and not SKIPS.intersection(file.parts) and ".." not in file.parts:
            path = Path(str(file.locate()))
            if path.is_file():
                yield Document(f"{name}/{file}", path.read_bytes(), python=True)


def _file(path: Path, field: str) -> Iterator[Document]:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    kind = suffixes[-2:-1] if packed else suffixes[-1:]
    if kind == [".parquet"]:
        if packed:
            raise UserError(
                f"data.files={path}: a gzipped Parquet file; unpack it (Parquet is compressed itself)"
            )
        yield from _parquet(path, field)
        return
    try:
        with cast(BinaryIO, gzip.open(path) if packed else path.open("rb")) as stream:
            if kind in ([".jsonl"], [".ndjson"]):
                yield from _json_lines(path, stream, field)
            elif kind == [".py"]:
                yield Document(path.name, stream.read(), python=True)
            else:
                yield from _pieces(path, stream)
    except (gzip.BadGzipFile, EOFError) as error:
        raise UserError(f"data.files={path}: not a whole gzip file ({error}); fetch it again") from error


def _pieces(path: Path, stream: BinaryIO) -> Iterator[Document]:
    number = 0
    while piece := stream.read(PIECE):
        yield Document(f"{path.name}#{number}", piece + stream.readline(PIECE), python=False)
        number += 1


def _json_lines(path: Path, stream: BinaryIO, field: str) -> Iterator[Document]:
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise UserError(
                f"data.files={path}: line {number} is not JSON ({error}); one object a line"
            ) from error
        yield Document(f"{path.name}:{number}", _field(value, field, f"{path}: line {number}"), python=False)


def _field(value: Any, field: str, where: str) -> bytes:
    if not isinstance(value, dict) or field not in value:
        known = ", ".join(map(str, value)) if isinstance(value, dict) else "no fields at all"
        raise UserError(f"data.field={field}: {where} has {known}; name the field that holds the text")
    if not isinstance(value[field], str):
        raise UserError(f"data.field={field}: {where} holds {type(value[field]).__name__}, not text")
    return value[field].encode("utf-8", "replace")


def _parquet(path: Path, field: str) -> Iterator[Document]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"data.files={path}: not a Parquet file ({error})") from error
    if field not in table.schema_arrow.names:
        known = ", ".join(table.schema_arrow.names)
        raise UserError(
            f"data.field={field}: {path} has the columns {known}; name the one that holds the text"
        )
    number = 0
    for batch in table.iter_batches(batch_size=1024, columns=[field]):
        for value in batch.column(0).to_pylist():
            if value is not None:
                yield Document(
                    f"{path.name}:{number}", _field({field: value}, field, f"{path}: row {number}"), False
                )
            number += 1


def _hub(data: DataConfig) -> Iterator[Document]:
    try:
        import datasets
    except ImportError:
        raise UserError(
            "data.kind=huggingface: needs the package datasets; pip install 'lmscale[data]'"
        ) from None
    files = [str(path) for path in find_files(data.files)] if data.files else None
    try:
        stream = datasets.load_dataset(
            data.dataset, name=data.subset, split=data.split, data_files=files, streaming=True
        )
        for number, row in enumerate(stream):
            where = f"{data.dataset}: row {number}"
            yield Document(f"{data.dataset}:{number}", _field(row, data.field, where), python=False)
    except UserError:
        raise
    except Exception as error:  # the library raises whatever its file systems raise
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"data.dataset={data.dataset}: cannot be read ({first}); check name, split, network"
        ) from error


def buffered(path: Path) -> BinaryIO:
    """A file to append small pieces to."""
    return cast(BinaryIO, io.BufferedWriter(path.open("ab", buffering=0), buffer_size=1 << 16))
