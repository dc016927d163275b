"""The Hydra application: `python -m lmscale.launch`. With `lmscale_sweeper`, the only place that sees Hydra.

The sweeper (hydra.mode is MULTIRUN) does everything but train; a job trains one pack.
"""

import gc
import os
import re
import shlex
import sys
import warnings

import hydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lmscale import stopping
from lmscale.errors import UserError


@hydra.main(version_base="1.3", config_path="pkg://sweeps", config_name="config")
def app(config: DictConfig) -> None:
    """One job: train the pack that the sweeper named."""
    from lmscale.worker import train_job

    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    train_job({str(key): value for key, value in values.items()})


def main() -> int:
    """Run; 0, 1 when a run failed, 2 with one line when a person's input is wrong, 130 when interrupted."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then lets errors through instead of printing and exiting
    # joblib renews a worker whose memory has grown by 300 MB, which compiled programs do; nothing is lost by it
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs")
    stopping.lead()
    gc.disable()  # until all is composed: see `job.train_job`
    try:
        app()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(
            f"lmscale: stopped, and nothing that was saved is lost; to go on: {_command()}", file=sys.stderr
        )
        return stopping.exit_status()
    except BrokenPipeError:
        # the reader has what it wanted (`| head`); what Python still holds for it would fail at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UserError as error:
        return _refuse(str(error))
    except OverrideParseException as error:
        return _refuse(f"{error.override}: {error}")
    except (HydraException, OmegaConfBaseException) as error:
        return _refuse(_unknown_key(error) or str(error))
    except RecursionError:
        return _refuse("the arguments, or a file of sweeps/, are nested deeper than can be read")
    return 0


def _unknown_key(error: Exception) -> str | None:
    """Hydra's remedy for a misspelt field is to append it, which is refused after that."""
    from lmscale.config import SweepConfig
    from lmscale.typed import nearest, unknown_key

    named = re.match(r"Could not override '([\w.]+)'", str(error))
    if named and named[1].startswith("hydra."):  # fields of Hydra's own, such as the launcher's
        node, key = (getattr(error.__cause__, name, None) for name in ("parent_node", "key"))
        known = [str(name) for name in node if not str(name).startswith("_")] if node is not None else []
        parent = named[1][: named[1].find(f".{key}") + 1]
        return f"{named[1]}: unknown key; {nearest(parent, str(key), known)}" if known else None
    return unknown_key(SweepConfig, named[1]) if named else None


def _command() -> str:
    return shlex.join(["python", "-m", "lmscale.launch", *sys.argv[1:]])


def _refuse(message: str) -> int:
    one_line = " ".join(message.split())  # what a person typed may have line breaks
    print(f"lmscale: {one_line}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
