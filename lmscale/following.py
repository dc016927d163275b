"""The pack that a worker will likely be given next: its program is compiled while this one trains."""

import dataclasses
from typing import Any

from lmscale import widths
from lmscale.packs import Job, read_pack
from lmscale.plan import Pack


def next_pack(job: Job) -> Pack | None:
    """Find the first pack of the sweep, in the order of the plan, that nobody has claimed and whose step is another
    program on the same data. With the lanes that are known for it, or else one, by which they will be measured."""
    paths = job.folder.glob("packs/*/pack.json")
    free = [path.parent.name for path in paths if not (path.parent / "claims").exists()]
    packs = [read_pack(job.folder, name)[0] for name in free]
    data = job.pack.runs[0].data["content_hash"]
    others = [
        one
        for one in packs
        if one.runs[0].data["content_hash"] == data and _program(one) != _program(job.pack)
    ]
    pack = min(others, key=lambda one: (one.wave, -one.flops), default=None)
    if pack is None or pack.has_width:
        return pack
    width = widths.known(job.folder.parent, pack) or 1
    return dataclasses.replace(pack, execution={**pack.execution, "width": width}, named=pack.pack_id)


def _program(pack: Pack) -> Any:
    run = pack.runs[0]
    return run.shape, run.optim, run.batch_multiple, run.evaluation, pack.execution.get("width")
