"""A sweep on two real SLURM nodes, through a bad day (benchmarks/slurm_nodes.py); skipped where no SLURM is."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.cluster import Sweep, alone, empty, running
from benchmarks.slurm_nodes import Cluster, NoCluster, nodes, wait
from lmscale.ledger import Ledger

pytestmark = [pytest.mark.slow, pytest.mark.alone]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    try:
        with nodes(tmp_path_factory.mktemp("slurm")) as up:
            yield up
    except NoCluster as reason:
        pytest.skip(f"two SLURM nodes cannot be had here: {reason}")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, corpora: Path) -> Sweep:
    return alone(Sweep(tmp_path_factory.mktemp("alone"), corpora))


def test_two_waves_with_a_requeue_a_cancelled_job_a_dead_daemon_and_a_dead_leader(
    tmp_path: Path, cluster: Cluster, reference: Sweep
) -> None:
    sweep = Sweep(tmp_path / "runs", reference.corpora, cluster)
    shutil.copytree(reference.runs / ".xla", sweep.runs / ".xla")
    leader = sweep.start()
    try:
        wait(lambda: len(list(sweep.experiment.glob("*/records.jsonl"))) == 2, 240, "two jobs train")
        (requeued, _), (cancelled, _) = running(cluster)
        cluster.run("scontrol", "requeue", requeued)
        cluster.run("scancel", cancelled)
        status = sweep.start("action=status").communicate(timeout=240)[0]
        assert f"job {requeued} " in status
        wait(lambda: requeued in dict(running(cluster)), 240, "the requeued job runs again")
        cluster.kill_daemon(dict(running(cluster))[requeued])
    finally:
        leader.kill()
        first = leader.communicate()[0]
    again = sweep.start()
    second = again.communicate(timeout=600)[0]
    assert again.returncode == 0, first + second
    assert sweep.science() == reference.science()
    assert sum(row.claims for row in Ledger(sweep.experiment).status()) >= 6 + 2  # two packs were begun twice
    told = cluster.run(
        "sacct", "-X", "--duplicates", "--noheader", "--format=State%30", "--starttime=now-1hour"
    )
    assert "REQUEUED" in told and "CANCELLED" in told
    empty(cluster)


REFUSED = {"partition=nowhere": "invalid partition", "timeout_min=500": "(PartitionTimeLimit)"}


@pytest.mark.parametrize("asked", REFUSED)
def test_what_the_site_does_not_allow_is_one_line_and_nothing_stays_queued(
    tmp_path: Path, cluster: Cluster, reference: Sweep, asked: str
) -> None:
    leader = Sweep(tmp_path / "runs", reference.corpora, cluster).start(f"hydra.launcher.{asked}")
    said = leader.communicate(timeout=240)[0]
    assert leader.returncode == 2 and REFUSED[asked] in said.splitlines()[-1]
    wait(lambda: cluster.jobs() == {}, 30, "an empty queue")
