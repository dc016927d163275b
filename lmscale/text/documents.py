"""Documents of a source, one after the other, never all in memory; and what identifies the source.

The standard library, installed packages, a person's files (text, JSON, Parquet, see `formats`), or a dataset of
the Hugging Face hub, streamed.
"""

import io
import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from lmscale.config import DataConfig
from lmscale.durable import explained
from lmscale.errors import UserError, needed
from lmscale.text import formats
from lmscale.text.files import find_files, states_of
from lmscale.text.json_records import records
from lmscale.text.meter import Meter, sizes_of
from lmscale.text.token_files import token_documents

# tests repeat themselves; encodings and pydoc_data are generated tables
SKIPS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "encodings", "pydoc_data"}
PACKAGES = ("hydra-core", "jax", "flax", "optax", "numpy", "pandas", "pyarrow", "scipy", "matplotlib", "rich")
PIECE = 64 * 1024  # bytes: plain text is cut at line ends into documents of about this length, or shorter:
LEAST_PIECE = 128
HELDOUT_PIECES = 16  # so many of them should be held out, or the share is left to luck


class Document(NamedTuple):
    """A text that is trained on or held out as a whole. name: where it came from. data: None for a null.
    source: its number in the mixture, by name."""

    name: str
    data: bytes | None
    python: bool
    source: int = 0


def documents(data: DataConfig, meter: Meter | None = None) -> Iterator[Document]:
    """Read every document of the configured source. UserError names the file, and the line or row, that is bad.

    meter: counts what is read.
    """
    meter = meter or Meter()
    if data.kind == "stdlib":
        yield from _python(_standard_library(), meter)
    elif data.kind == "packages":
        yield from _python([*_standard_library(), *_packages()], meter)
    elif data.kind == "text":
        yield from _files(data, data.files, meter)
    elif data.kind == "mixture":
        for number, name in enumerate(sorted(data.mixture)):
            for document in source_documents(data, name, meter):
                yield document._replace(source=number)
    elif data.kind == "tokens":
        paths = find_files(data.files)
        longest = piece_size(data, sum(sizes_of(paths))) // 2
        for name, tokens in token_documents(data, paths, longest, meter):
            yield Document(name, tokens, python=False)
    else:
        yield from _hub(data)


def source_documents(data: DataConfig, name: str, meter: Meter | None = None) -> Iterator[Document]:
    """Read every document of a named source: of data.sources, the standard library, or the packages alone."""
    meter = meter or Meter()
    if name == "stdlib":
        yield from _python(_standard_library(), meter)
    elif name == "packages":
        yield from _python(_packages(), meter)
    else:
        yield from _files(data, data.sources[name], meter)


def _files(data: DataConfig, patterns: tuple[str, ...], meter: Meter) -> Iterator[Document]:
    paths = find_files(patterns)
    sizes = sizes_of(paths)
    meter.expect(sizes)
    piece = piece_size(data, sum(sizes))
    for path, size in zip(paths, sizes, strict=True):
        yield from _file(path, data.field, piece, meter)
        meter.end(size)


def piece_size(data: DataConfig, total: int) -> int:
    """Choose how long the documents of plain text are, for files of `total` bytes: short ones in a small corpus,
    so that the share that is held out is near the one requested."""
    total = min(total, data.most_bytes or total)
    return min(PIECE, max(LEAST_PIECE, int(total * data.heldout_share) // HELDOUT_PIECES))


def fingerprint(data: DataConfig) -> list[Any]:
    """Identify the state of a source: what a corpus depends on besides its configuration.

    Reads no text: versions of packages, and names, sizes and times of files. A hub dataset is taken as it was
    when it was scanned.
    """
    if data.kind == "stdlib":
        return source_state(data, "stdlib")
    if data.kind == "packages":
        return [*source_state(data, "stdlib"), *source_state(data, "packages")]
    if data.kind in ("text", "tokens"):
        return states_of(data.files)
    if data.kind == "mixture":
        return [[name, source_state(data, name)] for name in sorted(data.mixture)]
    return [data.dataset, data.subset, data.split, *states_of(data.files)]


def source_state(data: DataConfig, name: str) -> list[Any]:
    """Identify the state of a named source, as `fingerprint` does that of a corpus."""
    if name == "stdlib":
        return [sys.version.split()[0]]
    if name == "packages":
        return [f"{package} {_version(package)}" for package in PACKAGES]
    return states_of(data.sources[name])


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        raise UserError(
            f"data.kind=packages: {name} is not installed; install it, or use data=stdlib"
        ) from None


def _python(listed: list[tuple[str, Path]], meter: Meter) -> Iterator[Document]:
    """Python files, each a document, by name and place."""
    with explained(listed[0][1].parent if listed else Path(), "read"):
        sizes = sizes_of([path for _, path in listed])
    meter.expect(sizes)
    for (name, path), size in zip(listed, sizes, strict=True):
        with explained(path, "read"):
            text = path.read_bytes()
        meter.end(size)
        yield Document(name, text, python=True)


def _standard_library() -> list[tuple[str, Path]]:
    root = Path(sysconfig.get_path("stdlib"))
    found = ((path.relative_to(root).parts, path) for path in sorted(root.rglob("*.py")))
    return [
        ("/".join(parts), path) for parts, path in found if not SKIPS.intersection(parts) and path.is_file()
    ]


def _packages() -> list[tuple[str, Path]]:
    found = []
    for name in PACKAGES:
        _version(name)
        for file in metadata.files(name) or []:
            if file.suffix == ".py" and not SKIPS.intersection(file.parts) and ".." not in file.parts:
                path = Path(str(file.locate()))
                if path.is_file():
                    found.append((f"{name}/{file}", path))
    return found


def _file(path: Path, field: str, piece: int, meter: Meter) -> Iterator[Document]:
    with formats.opened(path) as found:
        meter.begin(found.position)
        if found.kind == "parquet":
            yield from _parquet(path, field, meter)
        elif found.kind == "json":
            file, name = str(path), path.name
            for where, value in records(path, found):
                text = value if isinstance(value, str) else _field(value, field, file, where)
                yield Document(f"{name}: {where}", _encoded(text), python=False)
        elif found.suffix == ".py":
            yield Document(path.name, _checked(path, 0, found.stream.read()), python=True)
        else:
            yield from _pieces(path, found.stream, piece)


def _pieces(path: Path, stream: BinaryIO, size: int) -> Iterator[Document]:
    number = begin = 0
    while piece := stream.read(size):
        text = _checked(path, begin, _whole_letter(piece + stream.readline(size), stream))
        yield Document(f"{path.name}#{number}", text, python=False)
        number, begin = number + 1, begin + len(text)


def _whole_letter(piece: bytes, stream: BinaryIO) -> bytes:
    """`piece` with the rest of a letter of UTF-8 that it cuts, where no line ends."""
    for _ in range(3):
        following = cast(io.BufferedReader, stream).peek(1)[:1]
        if piece.endswith(b"\n") or not b"\x80" <= following < b"\xc0":
            break
        piece += stream.read(1)
    return piece


def _checked(path: Path, begin: int, text: bytes) -> bytes:
    """`text`, which stands at byte `begin` of a file that began as text; UserError where it is none any more."""
    if reason := formats.strange(text):
        raise UserError(
            f"data.files={path}: no text from about byte {begin} on ({reason}); cut or clean the file, "
            "only text is trained on"
        )
    return text


def _field(value: Any, field: str, file: str, where: str) -> str | None:
    """The text of a record; None for a null, which is left out and counted whatever the format."""
    if not isinstance(value, dict) or field not in value:
        names = [" ".join(str(name).split()) for name in list(value)[:20]] if isinstance(value, dict) else []
        known = ", ".join(names) or "no fields at all"
        raise UserError(
            f"data.field={field}: {file}: {where} has {known}; name the field that holds the text"
        )
    text = value[field]
    if text is not None and not isinstance(text, str):
        raise UserError(f"data.field={field}: {file}: {where} holds {type(text).__name__}, not text")
    return text


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else text.encode("utf-8", "replace")


def _parquet(path: Path, field: str, meter: Meter) -> Iterator[Document]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        table = pq.ParquetFile(path, page_checksum_verification=True)
        rows, size = max(1, table.metadata.num_rows), path.stat().st_size
        meter.begin(lambda: size * number // rows)
        if field not in table.schema_arrow.names:
            known = ", ".join(table.schema_arrow.names)
            raise UserError(
                f"data.field={field}: {path} has the columns {known}; name the one that holds the text"
            )
        file, name = str(path), path.name
        for batch in table.iter_batches(batch_size=1024, columns=[field]):
            for value in batch.column(0).to_pylist():
                text = _field({field: value}, field, file, where := f"row {number}")
                yield Document(f"{name}: {where}", _encoded(text), python=False)
                number += 1
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = f"damaged Parquet after row {number}" if number else "not a whole Parquet file"
        raise formats.unreadable(path, reason, error) from error


def _hub(data: DataConfig) -> Iterator[Document]:
    datasets = needed("datasets", "data.kind=huggingface")
    files = [str(path) for path in find_files(data.files)] if data.files else None
    try:
        stream = datasets.load_dataset(
            data.dataset, name=data.subset, split=data.split, data_files=files, streaming=True
        )
        for number, row in enumerate(stream):
            text = _encoded(_field(row, data.field, data.dataset or "", f"row {number}"))
            yield Document(f"{data.dataset}: row {number}", text, python=False)
    except UserError:
        raise
    except Exception as error:  # the library raises whatever its file systems raise
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"data.dataset={data.dataset}: cannot be read ({first}); check name, split, network"
        ) from error


def buffered(path: Path) -> BinaryIO:
    """Open a file to append small pieces to."""
    return cast(BinaryIO, io.BufferedWriter(path.open("ab", buffering=0), buffer_size=1 << 16))
