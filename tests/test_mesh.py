"""Several devices: the numbers of one device, whatever the mesh; state that moves between meshes; wrong meshes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from launching import ROOT, composed, launch

from lmscale.config import SweepConfig
from lmscale.data.scan import draft_manifest
from lmscale.errors import UserError
from lmscale.family import FamilyConfig, shape_of
from lmscale.mesh import MeshConfig, check_divides
from lmscale.placement import cut
from lmscale.plan import make_plan
from lmscale.typed import build

SAME = 1e-5  # of losses, at each of 50 steps


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What `on_devices.py` found, on eight devices that are forced on this CPU."""
    flags = "--xla_force_host_platform_device_count=8 --xla_cpu_multi_thread_eigen=false"
    variables = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "tests" / "on_devices.py"), str(tmp_path_factory.mktemp("moves"))]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def near(found: Any, losses: list[list[float]]) -> None:
    alone = np.array(found["meshes"]["alone"]["losses"])
    assert alone[-1] < alone[0] - 1  # it learns
    np.testing.assert_allclose(np.array(losses), np.broadcast_to(alone, np.shape(losses)), rtol=0, atol=SAME)


@pytest.mark.slow
def test_a_run_on_any_mesh_begins_with_the_bits_of_one_device_and_has_its_losses(found: Any) -> None:
    for devices in ("8", "4"):
        run = found["meshes"][devices]
        assert run["begins_alike"], devices
        near(found, run["losses"])
        matrices = [share for name, share in run["shares"].items() if "'in'" in name or "'qkv'" in name]
        assert len(matrices) == 6 and set(matrices) == {1 / int(devices)}  # with both moments


@pytest.mark.slow
def test_lanes_over_devices_never_talk_and_do_not_depend_on_where_they_are(found: Any) -> None:
    lanes = found["lanes"]
    near(found, lanes.pop("losses"))
    assert lanes == {"devices": 4, "talk": [], "alike": True}


@pytest.mark.slow
def test_checkpoints_move_between_one_eight_and_four_devices(found: Any) -> None:
    assert found["moves"]["bits"] == [True, True, True]
    near(found, found["moves"]["losses"])


def test_an_array_in_parts_is_cut_as_a_whole_one() -> None:
    whole = np.arange(2 * 6 * 8).reshape(2, 6, 8)
    arrays = {
        f"w@0,{row},{column}": whole[:, row : row + 3, column : column + 4]
        for row in (0, 3)
        for column in (0, 4)
    }
    arrays["w2@0"] = whole[0]  # another array's, whose name begins alike
    for index in (
        (slice(None),) * 3,
        (slice(0, 1), slice(2, 5), slice(3, 7)),
        (slice(None), slice(0, 3), slice(4, 8)),
        (slice(1, 2), slice(4, 6), slice(0, 1)),
    ):
        np.testing.assert_array_equal(cut(arrays, "w", whole.shape, index), whole[index])
        np.testing.assert_array_equal(cut({"w": whole}, "w", whole.shape, index), whole[index])
    np.testing.assert_array_equal(cut(arrays, "w", whole.shape), whole)


@pytest.mark.parametrize(
    "mesh, said",
    [
        (
            MeshConfig(5),
            "mesh.data=5: the rows of a batch of dial 8, 6, cannot be divided by it; numbers that fit: .1, 2, 3, 6",
        ),
        (MeshConfig(1, 3), "mesh.model=3: the d_model of dial 8, 8, "),
        (MeshConfig(1, 8), "mesh.model=8: the n_head of dial 8, 4, "),
    ],
)
def test_a_mesh_that_does_not_divide_is_refused(mesh: MeshConfig, said: str) -> None:
    shape = shape_of(FamilyConfig(), 8, context=32, vocab_size=64)
    check_divides(MeshConfig(3, 4), shape, 6)
    with pytest.raises(UserError, match=said):
        check_divides(mesh, shape, 6)


@pytest.mark.slow
def test_more_devices_than_there_are_is_one_line_and_nothing_is_claimed(
    tmp_path: Path, corpora: Path
) -> None:
    done = launch(tmp_path, corpora, "hydra/launcher=basic", "data.rows=5", "mesh.data=8", XLA_FLAGS="")
    assert done.returncode == 2
    assert (
        "mesh={data: 8, model: 1}: 8 devices are asked for, jax has 1 here; " in done.stderr.splitlines()[-1]
    )
    assert not list(tmp_path.glob("runs/smoke/packs/*/claims/*"))


def test_a_mesh_is_no_part_of_a_run_or_of_its_pack() -> None:
    plans = []
    for overrides in ([], ["mesh={data: 3, model: 2}"]):
        config = build(SweepConfig, {k: v for k, v in composed(*overrides).items() if k != "hydra"})
        plans.append(make_plan([config], [draft_manifest(config.data, config.tasks)], "cpu"))
    one, several = plans
    assert list(one.runs) == list(several.runs)
    assert [pack.pack_id for pack in one.packs] == [pack.pack_id for pack in several.packs]
    assert {pack.mesh for pack in several.packs} == {MeshConfig(3, 2)}
