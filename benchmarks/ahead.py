"""The plan's estimate against steps compiled ahead of time: 1B and 7B on 64 devices that nobody here has.

    python -m benchmarks.ahead [NAME ...] [--precision bfloat16]

One family (`family=deep family.aspect=128 family.d_head=128`, a vocabulary of 32,768, rows of 2,048) at two dials,
on meshes of 64 forced devices, a row a step for each of `data`. Half a minute to some minutes of a CPU and 2 GB of
memory a line. Step FLOPs of a device, exact x what was compiled over it, must agree to the last one where
nothing is computed twice; memory of a device within 10%. The table is in docs/ahead.md.
"""

import argparse
import dataclasses
from typing import NamedTuple

from lmscale.ahead import compiled
from lmscale.config import DataConfig, HorizonConfig, SweepConfig, TasksConfig
from lmscale.data.scan import draft_manifest
from lmscale.family import FamilyConfig, parameter_conventions
from lmscale.ladder import run_specs
from lmscale.memory import memory_bytes
from lmscale.mesh import MeshConfig
from lmscale.spec import RunSpec

VOCABULARY, CONTEXT = 32768, 2048


class Line(NamedTuple):
    """A rung on a mesh. rows: of a step."""

    dial: int
    mesh: MeshConfig
    rows: int


LINES = {
    "1B": Line(2048, MeshConfig(64, 1), 64),
    "1B-4-rows": Line(2048, MeshConfig(64, 1), 256),
    "1B-model-4": Line(2048, MeshConfig(16, 4), 16),
    "7B": Line(4096, MeshConfig(64, 1), 64),
    "7B-model-4": Line(4096, MeshConfig(16, 4), 16),
}


def run_of(line: Line) -> RunSpec:
    """Make a run of this rung and batch, as a plan would from a corpus with this vocabulary."""
    data, tasks = DataConfig(rows=line.rows, context=CONTEXT), TasksConfig()
    config = SweepConfig(
        name="ahead",
        dial=(line.dial,),
        seed=(0,),
        data=data,
        family=FamilyConfig(n_layer=None, aspect=128, n_head=None, d_head=128),
        horizon=HorizonConfig(tokens=1e10, dial=line.dial, multiples=(1.0,)),
    )
    manifest = dataclasses.replace(draft_manifest(data, tasks), vocab_size=VOCABULARY)
    return run_specs(config, manifest)[0]


def main() -> None:
    """Print a line of the table for each name."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"of {', '.join(LINES)}; all")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    options = parser.parse_args()
    print("| | N | data x model | rows | FLOPs | estimate | compiled | ratio | communication |")
    print("|" + "---|" * 9)
    for name in options.names or LINES:
        line = LINES[name]
        run = run_of(line)
        found = compiled(run, line.mesh, options.precision)
        exact = run.flops_per_token * run.batch_tokens / line.mesh.size
        estimate = memory_bytes(run, options.precision, line.mesh)
        talk = (f"{n} {kind} {found.bytes[kind] / 1e9:.2f} GB" for kind, n in sorted(found.counts.items()))
        cells = (
            name,
            f"{parameter_conventions(run.shape)['params'] / 1e9:.2f}B",
            f"{line.mesh.data} x {line.mesh.model}",
            f"{line.rows}",
            f"{exact:.4g} x {found.flops / exact:.6g}",
            f"{estimate / 1e9:.2f} GB",
            f"{found.memory / 1e9:.2f} GB",
            f"{estimate / found.memory:.3f}",
            ", ".join(talk),
        )
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
