"""The verbs by name: what each does in a line, and commands that work, for `--help`.

Here and not in the verbs' modules: a list of them prints without importing any.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """what: one line. examples: what is typed after the command's name; docs/start.md has their tables."""

    what: str
    examples: tuple[str, ...]


VERBS = {
    "fit": Verb(
        "fit a scaling law",
        (
            "fit runs.csv --columns params=N,tokens=D,loss=val_loss",
            "fit runs/cpu --where \"part == 'text'\" --form auto --plots pictures",
            "fit runs.csv --form chinchilla --floor known --floor_value 1.69 --json fit.json",
        ),
    ),
    "extrapolate": Verb(
        "predict the loss of larger runs",
        (
            "extrapolate runs.csv --budget 1e21 --budget 1e22",
            "extrapolate runs.csv --at params=7e9,tokens=1.4e11 --level .9",
            "extrapolate runs.csv --targets planned.csv --json -",
        ),
    ),
    "isoflop": Verb(
        "compute-optimal params and tokens",
        ("isoflop runs.csv", "isoflop runs.csv --method parabola --bootstrap 200"),
    ),
    "curves": Verb(
        "fit whole loss curves under their schedules, and see which rung leaves their collapse",
        (
            "curves checkpoints.csv --schedule schedule=cosine",
            "curves runs/cpu --at params=1e6,tokens=2e8,schedule=cosine",
        ),
    ),
    "tune": Verb(
        "find the best learning rate of every rung and horizon of a sweep",
        ("tune rates.csv --rule .3/d_model", "tune runs/rates --plots pictures"),
    ),
    "design": Verb(
        "choose the next runs: what shrinks a target's interval most for its cost",
        (
            "design runs.csv --candidates planned.csv --at params=7e9,tokens=1.4e11 --budget 1e21",
            "design runs/cpu --candidates runs/cpu/candidates.json --at params=1e6,tokens=2e7 --width .03",
        ),
    ),
    "compare": Verb(
        "compare two recipes: the compute multiplier, its trend and a verdict",
        (
            "compare runs/adamw runs/muon --target 1e15",
            "compare runs.csv --by optimiser --plots pictures",
        ),
    ),
    "emergence": Verb(
        "flag the tasks whose score jumps past a size",
        ("emergence scores.csv --columns size=N", "emergence runs/cpu --pictures pictures"),
    ),
    "forecast": Verb(
        "register a prediction of a run that was not made",
        (
            "forecast runs.csv --at params=7e9,tokens=1.4e11",
            "forecast runs/cpu --rung 128 --cut 10",
        ),
    ),
    "verify": Verb(
        "score registered forecasts against the runs they were of",
        ("verify measured.csv --forecasts forecasts", "verify runs/cpu"),
    ),
    "plots": Verb(
        "draw the ladder, its law and its tasks as SVG and PNG files",
        ("plots runs.csv --out pictures", "plots runs/cpu"),
    ),
    "report": Verb(
        "write one HTML page that says what the runs say",
        ("report runs.csv --columns params=N,tokens=D,loss=val_loss --out report", "report runs/cpu"),
    ),
    "import": Verb(
        "make a table of runs out of what a tracker, a trainer or a harness keeps",
        (
            "import wandb_export.csv --out runs.parquet",
            "import project --source wandb_csv --columns params=model.params --out runs.csv",
        ),
    ),
    "cite": Verb(
        "say what a paper must state of a fit: conventions, law, objective, starts, versions, sources",
        ("cite runs.csv --columns params=N,tokens=D,loss=val_loss", "cite runs/cpu --json cite.json"),
    ),
    "watch": Verb(
        "serve a page of a ladder that still trains, on this machine",
        ("watch runs/cpu", "watch runs/cpu --port 8000"),
    ),
}
