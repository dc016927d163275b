"""Say which table a report is of, as a person asked for it, and how to ask again."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from analysis.tables.load import is_run_folder


@dataclass(frozen=True)
class Source:
    """A table and the options it was read with; empty strings are options that were not given."""

    path: str
    columns: str = ""
    where: str = ""
    same: str = ""
    out: str = ""

    @property
    def name(self) -> str:
        """The file's or folder's own name."""
        return Path(self.path).resolve().name

    @property
    def is_folder(self) -> bool:
        """True for a folder of runs, which has tasks and whose units are known; no column makes a file one."""
        return is_run_folder(self.path)

    def column(self, name: str) -> str:
        """Return what the table itself calls the column `name`."""
        pairs = [item.partition("=") for item in self.columns.split(",")]
        return next((theirs.strip() for ours, _, theirs in pairs if ours.strip() == name), name)

    @property
    def counts_embeddings(self) -> bool:
        """True where N is all parameters of a folder's runs."""
        return self.is_folder and self.column("params") == "params"

    @property
    def size_name(self) -> str:
        """Say in words what N counts: one model has one size on a page."""
        if self.counts_embeddings:
            return "parameters, embeddings included"
        name = self.column("params")
        if self.is_folder and name == "params_nonembedding":
            return "parameters without embeddings"
        return "parameters" if name == "params" else f"parameters ({name})"

    def command(self, verb: str, *options: str, out: bool = False) -> str:
        """Return the command line that runs `verb` on the same rows of the same table."""
        words = ["python", "-m", "analysis", verb, self.path]
        given = {"--columns": self.columns, "--where": self.where, "--same": self.same}
        for option, value in (given | ({"--out": self.out} if out else {})).items():
            if value:
                words += [option, value]
        return shlex.join([*words, *options])
