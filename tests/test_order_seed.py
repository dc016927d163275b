"""Initialisation and data order are two axes: `seed` decides both, or `data.order_seed` the second of them."""

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest

from analysis.tables.science import label_sciences
from lmscale import train
from lmscale.config import DataConfig, SweepConfig, TasksConfig
from lmscale.data import open_world
from lmscale.errors import UserError
from lmscale.ladder import run_specs
from lmscale.plan import Pack, make_plan
from lmscale.spec import RunSpec, spec_of, written
from lmscale.timing import Clock


def test_one_order_for_all_seeds(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" ".join(str(n) for n in range(30_000)))
    own = DataConfig(kind="text", files=(str(tmp_path / "a.txt"),), heldout_rows=4)
    tasks = TasksConfig(weight=0.3, weights={"bigram": 1.0})
    world = open_world(own, tasks, tmp_path / "corpora")

    def runs(order_seed: int | None) -> list[RunSpec]:
        data = dataclasses.replace(own, order_seed=order_seed)
        config = SweepConfig(name="x", dial=(8,), seed=(0, 1), data=data, tasks=tasks)
        return [spec for spec in run_specs(config, world.manifest) if spec.kind == "trunk"]

    def batches(specs: list[RunSpec]) -> np.ndarray:
        pack = Pack(0, {"steps": 2}, tuple(specs), (1,))
        return train._batches(
            pack, world, range(len(specs)), np.zeros(len(specs), int), Clock(time.perf_counter())
        )[0]

    default, paired = runs(None), runs(7)
    alike = batches([*paired, dataclasses.replace(default[0], seed=7)])
    assert (alike == alike[:, :1]).all()  # as a run of seed 7 would draw them
    assert not (batches(default)[:, 0] == batches(default)[:, 1]).all()
    assert "order_seed" not in written(default[0])["data"] and written(paired[0])["data"]["order_seed"] == 7
    assert len({spec.run_id for spec in default + paired + runs(8)}) == 6
    assert spec_of(written(paired[1])).run_id == paired[1].run_id
    # another order is another seed to a law, and no other science
    labels, _ = label_sciences({spec.run_id: written(spec) for spec in default + paired + runs(8)})
    assert len(set(labels.values())) == 1


def test_orders_are_lanes_of_one_program() -> None:
    from lmscale.data.scan import draft_manifest

    base = SweepConfig(name="x", dial=(8,), seed=(0, 1))
    configs = [dataclasses.replace(base, data=DataConfig(order_seed=order)) for order in (0, 1)]
    plan = make_plan(configs, [draft_manifest(c.data, c.tasks) for c in configs], "gpu")
    assert {len(pack.runs) for pack in plan.packs if pack.wave == 0} == {4}


def test_an_order_that_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.order_seed=-1: it must be from 0 to"):
        DataConfig(order_seed=-1)
