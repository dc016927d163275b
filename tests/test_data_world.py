"""The mixture: a pure function of seed and step, with the counts and weights that were asked for."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hydra import compose, initialize_config_module
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lmscale.config import OptimConfig, SweepConfig
from lmscale.data import DataConfig, TasksConfig, World, open_world, scan
from lmscale.data.world import BLOCK, permute
from lmscale.errors import UserError
from lmscale.family import FamilyConfig, shape_of
from lmscale.lanes import Lane
from lmscale.plan import make_plan
from lmscale.step import init_lane, pack_program
from lmscale.tasks import BUILDERS, build_task
from lmscale.tasks.base import is_heldout
from lmscale.tasks.rows import Rows, assign, assign_apart, lengths, pack
from lmscale.tasks.sampling import task_items
from lmscale.typed import build

# peak rate, weight decay, warm-up, start and end of the fall, cosine, floor, end
LANE = [(0.01, "float32"), (0.1, "float32"), (1, "int32"), (8, "int32"), (9, "int32")]
LANE += [(0.0, "float32"), (0.0, "float32"), (9, "int32")]
EXPERIMENTS = Path(__file__).parents[1] / "sweeps" / "experiment"
ALL = TasksConfig(weight=0.3, weights={name: 1 + i / 7 for i, name in enumerate(BUILDERS)}, items=40)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpus")


@pytest.fixture(scope="session")
def world(corpus: Path) -> World:
    return open_world(DataConfig(), ALL, corpus)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 3), st.integers(0, 4 * BLOCK), st.integers(1, 5), st.integers(1, 3))
def test_a_step_does_not_depend_on_what_was_asked_with_or_before_it(
    world: World, seed: int, start: int, count: int, multiple: int
) -> None:
    together = world.batches(seed, start, count, multiple)
    for i in range(count):
        alone = world.batches(seed, start + i, 1, multiple)
        for one, many in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one[0], many[i])


def test_another_process_would_make_the_same_batches(world: World, corpus: Path) -> None:
    again = open_world(DataConfig(), ALL, corpus)
    for one, other in zip(world.batches(5, 700, 2), again.batches(5, 700, 2), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(world.batches(5, 0, 1).tokens, world.batches(6, 0, 1).tokens)


@pytest.mark.parametrize("multiple", [1, 3])
def test_rows_and_weights_are_as_configured(world: World, multiple: int) -> None:
    batch = world.batches(0, 9, 4, multiple)
    component_of_row = world.component_of_row(multiple)
    assert batch.tokens.shape == (4, len(component_of_row), world.context + 1)
    np.testing.assert_allclose(batch.weight.sum(axis=(1, 2), dtype=float), 1, atol=1e-6)
    assert sum(c.weight for c in world.components) == pytest.approx(1, abs=1e-12)
    for index, component in enumerate(world.components):
        mine = component_of_row == index
        assert mine.sum() == component.rows * multiple
        share = batch.weight[:, mine].sum(axis=(1, 2), dtype=float)
        np.testing.assert_allclose(share, component.weight, rtol=1e-6)
        assert batch.counted[:, mine].any(axis=(1, 2)).all()
    assert not batch.weight[~batch.counted].any()


@pytest.mark.slow
def test_a_training_steps_total_is_the_weighted_sum_of_its_components(world: World) -> None:
    family = FamilyConfig(n_layer=1, n_head=1)
    shape = shape_of(family, 8, context=world.context, vocab_size=world.vocab_size)
    lane_axis = jax.tree.map(lambda array: array[None], init_lane(shape, OptimConfig(), jnp.int32(0)))
    numbers = [jnp.asarray([value], kind) for value, kind in LANE]
    program = pack_program(shape, OptimConfig(), world.component_of_row(), len(world.components))
    batch = [array[:, None] for array in world.batches(3, 7, 1)]
    _, metrics = program(lane_axis, Lane(*numbers), batch, 1)
    parts = np.asarray(metrics.components[0], float)
    together = sum(part.weight * loss for part, loss in zip(world.components, parts, strict=True))
    assert float(metrics.total[0]) == pytest.approx(together, rel=1e-6)
    assert parts.std() > 1e-3  # so that other weights would show


def test_text_windows_are_drawn_without_replacement(world: World) -> None:
    windows = (world.manifest.unique_tokens - 1) // world.context - 1
    text = np.asarray(world._train[:-1])
    drawn = np.concatenate([world._text_block(0, block).tokens[:, 0] for block in range(40)])
    assert len(drawn) == 40 * BLOCK < windows
    place = permute(np.arange(windows), windows, 12345)
    np.testing.assert_array_equal(np.sort(place), np.arange(windows))
    assert np.abs(np.corrcoef(place, np.arange(windows))[0, 1]) < 0.02
    # letters come as often as in the text: windows are spread over it
    share = np.bincount(drawn, minlength=256)[[32, 101]] / len(drawn)
    np.testing.assert_allclose(share, [np.mean(text == 32), np.mean(text == 101)], atol=0.01)


def test_no_file_is_in_both_splits(world: World, corpus: Path) -> None:
    folder = corpus / world.manifest.text_key
    train, heldout = (
        {part for part in (folder / f"{split}.bin").read_bytes().split(b"\0") if part}
        for split in ("train", "heldout")
    )
    assert len(train) == world.manifest.sources["train"]["documents"]
    assert not train & heldout
    share = world.manifest.heldout_tokens / (world.manifest.unique_tokens + world.manifest.heldout_tokens)
    assert 0.02 < share < 0.15


@pytest.mark.parametrize("name", [name for name in BUILDERS if BUILDERS[name](0).heldout])
def test_heldout_questions_are_never_trained_on(world: World, name: str) -> None:
    task = world.families[name]
    variants = [variant.name for variant in task.variants]
    asked = set[bytes]().union(*(questions(world.items(name, variant).rows) for variant in [*variants, None]))
    trained = set[bytes]().union(*(questions(world._block(1, name, block)) for block in range(4)))
    assert len(asked) > 30
    assert len(trained) > 250  # of the 307 strings of nine bits that may be trained on, almost all
    assert not asked & trained
    keys = task.sample(np.random.default_rng(0), 4000).key
    assert is_heldout(keys, task.heldout).mean() == pytest.approx(task.heldout, abs=0.08)


def questions(rows: Rows) -> set[bytes]:
    """Every line up to its first counted byte."""
    found = set()
    for tokens, counted in zip(rows.tokens[:, 1:], rows.counted, strict=True):
        ends = np.flatnonzero(tokens == ord("\n"))
        for begin, end in zip([0, *ends[:-1] + 1], ends, strict=True):
            first = begin + int(np.argmax(counted[begin:end]))
            found.add(bytes(tokens[begin:first].astype(np.uint8)))
    return found


def test_an_answer_does_not_stand_earlier_in_its_own_row(world: World) -> None:
    for name in ("facts", "modadd", "parity"):
        rows = world.items(name, "direct").rows
        for tokens in rows.tokens:
            lines = bytes(tokens[1:][tokens[1:] < 256].astype(np.uint8)).split(b"\n")[:-1]
            assert len(set(lines)) == len(lines)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(path.stem, marks=pytest.mark.slow if path.stem in ("full", "gpu") else ())
        for path in sorted(EXPERIMENTS.glob("*.yaml"))
    ],
)
def test_every_experiment_can_be_composed_scanned_and_planned(corpus: Path, name: str) -> None:
    with initialize_config_module("sweeps", version_base="1.3"):
        composed = OmegaConf.to_container(compose("config", [f"experiment={name}"]), resolve=True)
    assert isinstance(composed, dict)
    config = build(SweepConfig, composed)
    plan = make_plan([config], [scan(config.data, config.tasks, corpus)], "cpu")
    assert {run.dial for run in plan.runs.values()} == {*config.dial, config.target.dial} - {None}


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 5)), min_size=1, max_size=40))
def test_rows_that_keep_questions_apart_are_as_long_as_they_can_be(examples: list[tuple[int, int]]) -> None:
    length, question = map(np.array, zip(*examples, strict=True))
    row = assign_apart(length, question.astype(np.uint64), 12)
    assert row[0] == 0 and set(np.diff(row)) <= {0, 1}
    for number in range(row[-1] + 1):
        mine = row == number
        assert length[mine].sum() <= 12 and len(set(question[mine])) == mine.sum()
        following = np.flatnonzero(mine)[-1] + 1
        if following < len(row):
            full = length[mine].sum() + length[following] > 12
            assert full or question[following] in question[mine]


def test_a_long_row_holds_items_of_a_task_with_few_questions() -> None:
    """Of the twenty examples in a row of 256, two nearly always ask the same: rows end before."""
    task = build_task("facts", 0, "core")
    items = task_items(
        DataConfig(context=256), TasksConfig(weight=0.3, weights={"facts": 1.0}, items=100), task, "direct"
    )
    assert len(items.shot) >= 100
    for row in items.rows.tokens:
        asked = bytes(row[row < 256].astype(np.uint8)).split(b"\n")[:-1]
        assert len(set(asked)) == len(asked)


def test_examples_of_unequal_length_are_packed_whole() -> None:
    from lmscale.tasks.base import answer, render
    from lmscale.text.vocab import PAD, START

    x = np.array([[97, PAD], [98, 99], [100, PAD]], np.uint16)
    examples = render("q", x, "=", answer(x), ";")
    row = assign(lengths(examples), 16, "mine")
    assert row.tolist() == [0, 0, 1]
    rows = pack(examples, row, 16)
    assert rows.tokens.shape == (2, 17)
    text = [START, *b"qa=a;qbc=bc;", PAD, PAD, PAD, PAD]
    assert rows.tokens[0].tolist() == text
    assert rows.item[0].tolist() == [-1, -1, -1, 0, -1, -1, -1, -1, -1, 1, 1, -1, -1, -1, -1, -1]


def test_unique_tokens_and_weights_change_the_content_hash(corpus: Path) -> None:
    base = scan(DataConfig(), ALL, corpus)
    assert scan(DataConfig(), ALL, corpus) == base
    fewer = scan(DataConfig(unique_tokens=100_000), ALL, corpus)
    assert fewer.unique_tokens == 100_000
    assert (
        len(
            {
                base.content_hash,
                fewer.content_hash,
                scan(DataConfig(), TasksConfig(weight=0), corpus).content_hash,
            }
        )
        == 3
    )
    small = open_world(DataConfig(unique_tokens=100_000), ALL, corpus)
    assert len(small._train) == 100_000


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DataConfig(kind="web"), "data.kind=web"),
        (lambda: DataConfig(context=8), "data.context=8"),
        (lambda: DataConfig(heldout_share=1.5), "data.heldout_share=1.5"),
        (lambda: TasksConfig(weight=-0.1), "tasks.weight=-0.1"),
        (lambda: TasksConfig(weights={"copy": -1.0}), "tasks.weights.copy=-1.0"),
        (lambda: TasksConfig(weight=0.3, weights={}), "tasks.weight=0.3"),
    ],
)
def test_bad_configuration_is_named(make: "object", words: str) -> None:
    with pytest.raises(UserError, match=words):
        make()  # type: ignore[operator]


def test_unknown_task_and_too_large_corpus_are_named(corpus: Path) -> None:
    with pytest.raises(UserError, match=r"tasks\.weights\.juggling"):
        scan(DataConfig(), TasksConfig(weight=0.3, weights={"juggling": 1.0}), corpus)
    with pytest.raises(UserError, match=r"data\.unique_tokens=1000000000000"):
        scan(DataConfig(unique_tokens=10**12), ALL, corpus)
