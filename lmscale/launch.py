"""The Hydra application: what the command `lmscale` starts. With `lmscale_sweeper`, the only place that sees Hydra.

The sweeper (hydra.mode is MULTIRUN) does everything but train; a job trains one pack.
"""

import contextlib
import importlib.util
import io
import os
import re
import shlex
import sys
import warnings
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lmscale import collector, stopping
from lmscale.config import ACTIONS, SweepConfig
from lmscale.device import MORE_MEMORY
from lmscale.durable import disk_error
from lmscale.errors import UserError
from lmscale.typed import did_you_mean, nearest, one_of, unknown_key
from lmscale.usage import SWEEPS

_OF_A_PART = re.compile(r"([+~]*)parts\.([^.=]+)\.(.*)", re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z0-9_.,:/+ {}\[\]-]*")


@hydra.main(version_base="1.3", config_path="pkg://sweeps", config_name="config")
def app(config: DictConfig) -> None:
    """Do one job: train the pack that the sweeper named."""
    from lmscale.worker import train_job

    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    train_job({str(key): value for key, value in values.items()})


def main() -> int:
    """Run; 0, 1 when a run failed, 2 with one line when a person's input is wrong, 130 when interrupted."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then lets errors through instead of printing and exiting
    # joblib renews a worker whose memory has grown by 300 MB, which compiled programs do; nothing is lost by it
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs")
    for stream in (sys.stdout, sys.stderr):  # an ASCII terminal shows a ? where it has no letter
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    stopping.lead()
    typed = sys.argv[1:]
    sys.argv[1:] = readable(typed)
    try:
        _check_options(typed)
        _whose_sweeps(typed)
        with collector.resting():  # until all is composed
            app()
        sys.stdout.flush()
    except KeyboardInterrupt:
        command = ["lmscale"] if Path(sys.argv[0]).name == "lmscale" else ["python", "-m", "lmscale.launch"]
        again = shlex.join([*command, *typed])
        with contextlib.suppress(OSError, UserError):  # the terminal may be what went away
            stopping.say_farewell()
            print(f"lmscale: stopped, and nothing that was saved is lost; to go on: {again}", file=sys.stderr)
        return stopping.exit_status()
    except BrokenPipeError:
        # the reader has what it asked for (`| head`); what Python still holds for it would fail at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UserError as error:
        return _refuse(str(error))
    except OverrideParseException as error:
        return _refuse(_unreadable(error))
    except (HydraException, OmegaConfBaseException) as error:
        return _refuse(_unknown_key(error) or _unknown_choice(error) or str(error))
    except RecursionError:
        return _refuse("the arguments, or a file of sweeps/, are nested deeper than can be read")
    except OSError as error:
        return _refuse(str(disk_error(error, Path(error.filename or "a file"), "use")))
    except MemoryError as error:
        return _refuse(f"the system gives no more memory {error}; {MORE_MEMORY}")
    return 0


def readable(arguments: list[str]) -> list[str]:
    """Return the command line as Hydra can read it: -m first, then all overrides, then other options; and
    values that its grammar has no place for (letters that are not ASCII, ~, parentheses, =) between quotes, whole
    or in a list. parts.NAME.KEY=VALUE goes to the sweeper."""
    sweeps = [argument for argument in arguments if argument in ("-m", "--multirun")]
    of_parts = [match for argument in arguments if (match := _OF_A_PART.fullmatch(argument))]
    overrides = [
        argument
        for argument in arguments
        if re.match(r"[^-].*=|~", argument, re.DOTALL) and not _OF_A_PART.fullmatch(argument)
    ]
    taken = {*sweeps, *overrides, *(match.string for match in of_parts)}
    inner = [
        _quote(f"{part}.{_quoted(mark + override)}")
        for mark, part, override in (m.groups() for m in of_parts)
    ]
    typed = [f"hydra.sweeper.parts=[{','.join(inner)}]"] if inner else []
    rest = [argument for argument in arguments if argument not in taken]
    return [*sweeps, *map(_quoted, overrides), *typed, *rest]


def _quoted(argument: str) -> str:
    key, equals, value = argument.partition("=")
    if argument.startswith("-") or not equals or _PLAIN.fullmatch(value):
        return argument
    items = [_quote(item.strip()) for item in value[1:-1].split(",")]
    is_list = value.startswith("[") and value.endswith("]")
    for candidate in (value, f"[{','.join(items)}]" if is_list else _quote(value)):
        with contextlib.suppress(HydraException):
            OverridesParser.create().parse_override(f"{key}={candidate}")
            return f"{key}={candidate}"
    return argument


def _quote(value: str) -> str:
    """A value between double quotes; a backslash there counts only before a quote or at the end."""
    return '"' + re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ("\\" + m[2] if m[2] else ""), value) + '"'


def _check_options(typed: list[str]) -> None:
    """Raise UserError for an option that Hydra does not have, which would answer with all that it has."""
    known = [name for name in get_args_parser()._option_string_actions if name.startswith("--")]
    for argument in typed:
        option = argument.partition("=")[0]
        if option.startswith("--") and not any(name.startswith(option) for name in known):
            meant = did_you_mean(option, known) or "lmscale --help lists them"
            raise UserError(f"{option}: no such option; {meant}")
    modes = [
        word for word in typed if re.fullmatch(r"-[mrci]|--(multirun|run|cfg|info|shell-completion)", word)
    ]
    if len(modes) > 1:
        raise UserError(f"{' '.join(modes)}: only one of them at a time")


def _whose_sweeps(typed: list[str]) -> None:
    """Raise UserError where somebody else's `sweeps` would be read in place of ours. Say so where ours is read and
    his, in the working folder, is not."""
    found = importlib.util.find_spec("sweeps")
    places = [Path(place).resolve() for place in (found and found.submodule_search_locations) or ()]
    if places != [SWEEPS]:
        raise UserError(
            f"{places[0] if places else 'sweeps'}: read in place of lmscale's own sweeps; start the command "
            "lmscale, which does not import from the working folder, or rename yours"
        )
    his = Path("sweeps")
    told = any("searchpath" in argument or argument.startswith("--config-d") for argument in typed)
    if not told and his.resolve() != SWEEPS and any(his.glob("*/*.yaml")):
        print(
            "lmscale: note: sweeps/ in this folder is not read; 'hydra.searchpath=[file://sweeps]' adds it",
            file=sys.stderr,
        )


def _unreadable(error: OverrideParseException) -> str:
    """The sentence for an argument that Hydra cannot read."""
    word = error.override
    if "=" not in word:
        experiments = [file.stem for file in SWEEPS.glob("experiment/*.yaml")]
        if meant := did_you_mean(word, ACTIONS, "action=") or did_you_mean(word, experiments, "experiment="):
            return f"{word}: give NAME=VALUE; {meant}"
        remedy = "give NAME=VALUE; a value with blanks goes between quotes, name='two words'"
        return f"{word}: {remedy} (in make: ARGS=\"'name=two words'\")"
    name = word.partition("=")[0]
    why = " ".join(str(error).split()).partition(" See https://")[0]
    return f"{word}: not readable ({why}); a list is [a,b], text with special letters '{name}=\"...\"'"


def _unknown_key(error: Exception) -> str | None:
    """Hydra's remedy for a misspelt field is to append it, which is refused after that."""
    named = re.match(r"Could not override '([\w.]+)'", str(error))
    if named and named[1].startswith("hydra."):  # fields of Hydra's own, such as the launcher's
        node, key = (getattr(error.__cause__, name, None) for name in ("parent_node", "key"))
        known = [str(name) for name in node if not str(name).startswith("_")] if node is not None else []
        parent = named[1][: named[1].find(f".{key}") + 1]
        return f"{named[1]}: unknown key; {nearest(parent, str(key), known)}" if known else None
    if named and (meant := did_you_mean(named[1], ["experiment"])):  # a group, and no field
        return f"{named[1]}: unknown key; {meant}"
    return unknown_key(SweepConfig, named[1]) if named else None


def _unknown_choice(error: Exception) -> str | None:
    """Hydra lists what a group has, and where it looked. A launcher that is not there may be an extra of ours."""
    named = re.search(
        r"Could not find '([\w/]+)/([^'/]+)'\s+Available [^:]+:\s+(.*?)\s+Config s", str(error), re.S
    )
    if not named:
        return None
    group, name, there = named[1], named[2], named[3].split()
    extra = {"ray": "ray", "submitit_slurm": "slurm", "submitit_local": "slurm"}.get(name)
    if group == "hydra/launcher" and extra:
        return f"{group}={name}: not installed; pip install 'lmscale[{extra}]'"
    return (
        f"{group}={name}: no such file; {one_of(name, there)}; a folder of your own with "
        f"{group}/{name}.yaml is added by 'hydra.searchpath=[file://FOLDER]'"
    )


def _refuse(message: str) -> int:
    one_line = " ".join(message.split())  # what a person typed may have line breaks
    print(f"lmscale: {one_line}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
