"""What `lmscale --help` prints: commands that work, actions, and what sweeps/ holds."""

from pathlib import Path

SWEEPS = Path(__file__).resolve().parents[1] / "sweeps"
TEXT = """\
usage: lmscale [NAME=VALUE ...] [OPTION ...]

Train a ladder of small language models and log loss against compute; what is missing is trained, nothing twice.

examples
  lmscale experiment=smoke                             train two tiny rungs, to see that everything works
  lmscale action=plan                                  the runs with N, D, C, memory and time; nothing is written
  lmscale experiment=cpu seed=[0,1,2,3]                the default ladder with a fourth seed
  lmscale data=text data.files=[texts/*.txt] name=mine    text of one's own
  lmscale -m optim.b2=.95,.98                          Hydra's comma syntax: a composition each, one plan
  lmscale experiment=mine 'hydra.searchpath=[file://conf]'    an experiment of one's own: conf/experiment/mine.yaml
  lmscale-analysis report runs/cpu                     what the runs say (lmscale-analysis --help)

actions
  action=sweep       data, plan, and training of what is missing (the default)
  action=data        scan the corpus into its manifest
  action=plan        the table of runs and packs, and what they cost
  action=candidates  the points of a plan as JSON, for lmscale-analysis design
  action=status      the ledger: what is done, running, failed
  action=peek        samples of everything that is trained on
  action=forecast    write down a forecast before its target trains
  action=verify      train the targets of all forecasts and score them

options, all of them Hydra's
  --cfg job          print the composed configuration: every field with its value
  --info searchpath  the folders that configurations are read from (also: defaults, defaults-tree, plugins)
  --config-dir DIR   one more of them
  -m                 read commas as axes
  -sc install=bash   completion for the shell: eval "$(lmscale -sc install=bash)"; also zsh, fish
  --hydra-help       the rest
  --version, --help

experiments (experiment=NAME, cpu unless said)
{experiments}

groups (GROUP=NAME)
{groups}

exit status: 0; 1: a run failed; 2, with one line: something typed is wrong; 128 + the signal: stopped"""


def usage() -> str:
    """Return the text of `--help`. What stands in sweeps/ is listed from there."""
    experiments = [f"  {path.stem:<18} {_about(path)}" for path in sorted(SWEEPS.glob("experiment/*.yaml"))]
    groups: dict[str, list[str]] = {}
    for path in sorted(SWEEPS.glob("[a-z]*/*.yaml")):
        groups.setdefault(path.parent.name, []).append(path.stem)
    listed = [f"  {name:<18} {', '.join(files)}" for name, files in groups.items() if name != "experiment"]
    return TEXT.format(experiments="\n".join(experiments), groups="\n".join(listed))


def _about(path: Path) -> str:
    """Return what the first lines of an experiment say it is, after its command."""
    for line in path.read_text().splitlines():
        if line.startswith("# make "):
            return line.partition("    ")[2].strip()
    return ""
