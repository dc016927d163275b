"""When the runs of a folder began, as the ledger of their first steps says it."""

import json
from datetime import datetime
from pathlib import Path


def first_steps(folder: Path) -> dict[str, float]:
    """Read when each run took its first step (seconds since 1970), by run id, from `frozen/`.

    An entry without a time, of an older ledger, has its file's; what was thawed and begun anew has the first.
    """
    found: dict[str, float] = {}
    for path in sorted((folder / "frozen").glob("*.json")):
        try:
            entry = json.loads(path.read_text())
            lanes = entry.get("execution", {}).get("lanes", ())
            said = entry.get("frozen_at")
            time = datetime.fromisoformat(said).timestamp() if said else path.stat().st_mtime
        except (OSError, ValueError, AttributeError):
            continue  # the ledger's own readers say that it is damaged
        for lane in lanes:
            found[str(lane)] = min(time, found.get(str(lane), time))
    return found
