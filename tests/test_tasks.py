"""Each task says what it claims: the answers are right, and the shortcuts know less than the rule."""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml

from lmscale.data import DataConfig, TasksConfig, open_world
from lmscale.peek import peek
from lmscale.tasks import BUILDERS, build_task
from lmscale.tasks.base import Examples, Task
from lmscale.tasks.sampling import evaluation_items, generator, task_items, training_rows
from lmscale.tasks.shortcut import shortcuts
from lmscale.text.vocab import PAD

FULL = Path(__file__).parents[1] / "sweeps" / "tasks" / "full.yaml"


def lines(examples: Examples) -> list[str]:
    return [bytes(row[row < 256].astype(np.uint8)).decode() for row in examples.tokens]


def answers(examples: Examples) -> list[str]:
    rows = zip(examples.tokens, examples.answer, strict=True)
    return [bytes(row[marks].astype(np.uint8)).decode() for row, marks in rows]


def closing(text: str) -> str:
    stack = []
    for letter in text:
        if letter in "([{<":
            stack.append(letter)
        else:
            assert {"(": ")", "[": "]", "{": "}", "<": ">"}[stack.pop()] == letter
    return {"(": ")", "[": "]", "{": "}", "<": ">"}[stack[-1]]


def list_operation(text: str) -> int:
    def value(name: str, x: list[int]) -> int:
        return {"M": max(x), "D": sorted(x)[1], "S": sum(x) % 10}[name]

    inner = re.sub(r"\((\w)(\d)(\d)(\d)\)", lambda m: str(value(m[1], [int(m[i]) for i in (2, 3, 4)])), text)
    return value(inner[0], [int(digit) for digit in inner[1:]])


def product(first: str, second: str) -> str:
    return "".join(first[int(place) - 1] for place in second)


# question and answer of each line, and the answer by the book
RULES: dict[str, tuple[str, Callable[..., str]]] = {
    "copy": (r"copy (\w+)>", lambda x: x),
    "copy_lengths": (r"dup (\w+)>", lambda x: x),
    "sort": (r"sort (\w+)>", lambda x: "".join(sorted(x))),
    "reverse": (r"back (\w+)>", lambda x: x[::-1]),
    "brackets": (r"close (\S+) ", closing),
    "modadd": (r"add (\w)\+(\w)=", lambda a, b: chr(97 + (ord(a) + ord(b) - 194) % 23)),
    "modadd_97": (r"mod (\d\d)\+(\d\d)=", lambda a, b: f"{(int(a) + int(b)) % 97:02d}"),
    "addition": (r"sum (\d+)\+(\d+)=", lambda a, b: f"{int(a) + int(b):03d}"),
    "addition_reversed": (r"mus (\d+)\+(\d+)=", lambda a, b: f"{int(a) + int(b):03d}"[::-1]),
    "composition": (r"mul (\d+)\*(\d+)=", product),
    "composition_3": (r"mul (\d+)\*(\d+)\*(\d+)=", lambda a, b, c: product(product(a, b), c)),
    "composition_3_steps": (r"mul (\d+)\*(\d+)\*(\d+):\d+=", lambda a, b, c: product(product(a, b), c)),
    "parity": (r"odd (\d+)=", lambda x: str(x.count("1") % 2)),
    "parity_long": (r"odds (\d+)=", lambda x: str(x.count("1") % 2)),
    "parity_chain": (r"odd (\d+):\d+=", lambda x: str(x.count("1") % 2)),
    "list_ops": (r"list (\S+)=", lambda x: str(list_operation(x))),
    "list_ops_steps": (r"list (\S+):\d*=", lambda x: str(list_operation(x))),
    "recall": (r"key (\w+)\?(\w)", lambda text, key: dict(zip(text[::2], text[1::2], strict=True))[key]),
    "override": (r"note (\w+) (\w), \1 ", lambda name, value: value),
}


@pytest.mark.parametrize("name", RULES)
def test_answers_follow_the_rule(name: str) -> None:
    pattern, rule = RULES[name]
    examples = build_task(name, 0).sample(np.random.default_rng(0), 300)
    for line, answer in zip(lines(examples), answers(examples), strict=True):
        found = re.match(pattern, line)
        assert found, line
        assert line == found.group() + answer + "\n"
        assert answer == rule(*found.groups()), line


def test_chains_lead_to_their_answers() -> None:
    examples = build_task("parity_chain", 0).sample(np.random.default_rng(1), 100)
    for line in lines(examples):
        bits, states, last = re.fullmatch(r"odd (\d+):(\d+)=(\d)\n", line).groups()  # type: ignore[union-attr]
        assert [int(s) for s in states] == [bits[: i + 1].count("1") % 2 for i in range(len(bits))]
        assert last == states[-1]
    examples = build_task("list_ops_steps", 0).sample(np.random.default_rng(1), 100)
    for line in lines(examples):
        text, steps = re.fullmatch(r"list (\S+):(\d*)=\d\n", line).groups()  # type: ignore[union-attr]
        inner = re.findall(r"\((\w\d\d\d)\)", text)
        assert steps == "".join(str(list_operation(part)) for part in inner)


def test_wrong_steps_are_wrong_and_the_question_after_them_is_not() -> None:
    (wrong,) = (v for v in build_task("parity_chain", 0).variants if v.name == "wrong_steps")
    assert wrong.sample is not None
    examples = wrong.sample(np.random.default_rng(2), 100)
    for line, answer in zip(lines(examples), answers(examples), strict=True):
        shown, asked, rest = line.split("\n")
        assert rest == ""
        bits, states, last = re.fullmatch(r"odd (\d+):(\d+)=(\d)", shown).groups()  # type: ignore[union-attr]
        assert int(last) != bits.count("1") % 2 and last == states[-1]
        assert answer == str(re.match(r"odd (\d+):", asked)[1].count("1") % 2)  # type: ignore[index]


def test_the_easier_question_of_three_permutations_is_that_of_the_first_two() -> None:
    examples = build_task("composition_3_steps", 0).sample(np.random.default_rng(1), 100)
    for line in lines(examples):
        first, second, step = re.fullmatch(r"mul (\d+)\*(\d+)\*\d+:(\d+)=\d+\n", line).groups()  # type: ignore[union-attr]
        assert step == product(first, second)


def kin_facts(seed: int) -> dict[tuple[str, str], str]:
    facts: dict[tuple[str, str], str] = {}
    for line in lines(build_task("one_hop", seed).sample(np.random.default_rng(0), 20_000)):
        person, relation, other = re.fullmatch(r"kin (\w+)\.(\w)=(\w+)\n", line).groups()  # type: ignore[union-attr]
        assert facts.setdefault((person, relation), other) == other
    return facts


@pytest.mark.parametrize("name", ["two_hop_recite", "three_hop_recite"])
def test_wrong_facts_are_true_of_somebody_else_and_the_question_after_them_is_not_wrong(name: str) -> None:
    facts = kin_facts(3)
    people = {person for person, _ in facts}

    def told(person: str, relations: list[str]) -> list[str]:
        found = []
        for relation in relations:
            person = facts[person, relation]
            found.append(person)
        return found

    task = build_task(name, 3)
    (wrong,) = (v for v in task.variants if v.name == "wrong_facts")
    assert wrong.sample is not None and wrong.scoring == "greedy"
    examples = wrong.sample(np.random.default_rng(2), 100)
    for line, mark, answer in zip(lines(examples), examples.counted, answers(examples), strict=True):
        shown, asked, rest = line.split("\n")
        assert rest == ""
        for text, right in ((shown, False), (asked, True)):
            head, steps = text.removeprefix("kin ").split(":")
            person, *relations = head.split(".")
            of = [other for other in people if told(other, relations) == steps.split(" ")]
            assert len(of) == 1 and (of[0] == person) == right
        assert answer == asked.split(" ")[-1].split(":")[-1]
        assert not mark[: len(shown) + 1].any()


def test_hops_compose_the_one_hop_facts() -> None:
    facts = kin_facts(3)
    assert len(facts) == 4 * 256
    for name in ("two_hop", "three_hop", "two_hop_recite", "three_hop_recite"):
        for line in lines(build_task(name, 3).sample(np.random.default_rng(1), 200)):
            person, *relations, end = re.split(
                r"\.", line[4:-1].replace("=", ".").replace(":", ".").replace(" ", ".")
            )
            count = 2 if name.startswith("two") else 3
            shown = [*relations, end][count:]
            path = []
            for relation in relations[:count]:
                person = facts[person, relation]
                path.append(person)
            assert shown == (path if "recite" in name else path[-1:])


def test_labels_are_balanced_and_follow_their_demonstrations() -> None:
    task = build_task("labels", 0)
    known: dict[str, set[str]] = {}
    for variant in task.variants:
        assert variant.sample is not None
        examples = variant.sample(np.random.default_rng(4), 2000)
        marks = answers(examples)
        share = np.mean([mark in "AX" for mark in marks])
        assert share == pytest.approx(0.5, abs=0.04), variant.name
        for line, mark in zip(lines(examples), marks, strict=True):
            *_, query = line.split()
            if variant.name == "gold":
                known.setdefault(query[:2], set()).add(mark)
    assert len(known) == 32 and all(len(marks) == 1 for marks in known.values())
    flipped = next(v for v in task.variants if v.name == "flipped").sample
    assert flipped is not None
    for line in lines(flipped(np.random.default_rng(5), 200)):
        for pair in line.split()[1:]:
            assert {pair[2]} != known[pair[:2]]


def test_a_bigram_walk_has_the_entropy_it_states() -> None:
    task = build_task("bigram", 0)
    texts = [line[5:-1] for line in lines(task.sample(np.random.default_rng(0), 20_000))]
    pairs = np.array([[ord(a) - 97, ord(b) - 97] for text in texts for a, b in pairwise(text)])
    count = np.zeros((8, 8))
    np.add.at(count, tuple(pairs.T), 1)
    p = count / count.sum(axis=1, keepdims=True)
    entropy = -(count * np.log(p)).sum() / count.sum()
    assert entropy == pytest.approx(task.floor, abs=0.01)
    assert p.max(axis=1) == pytest.approx(task.ceiling, abs=0.01)


def test_the_classic_six_have_one_right_option_that_training_shows() -> None:
    task = build_task("language", 0)
    trained = set(lines(task.sample(np.random.default_rng(0), 60_000)))
    assert len(task.variants) == 6
    for variant in task.variants:
        assert variant.sample is not None
        pairs = lines(variant.sample(np.random.default_rng(1), 200))
        right, wrong = pairs[::2], pairs[1::2]
        assert not set(right) & set(wrong)
        assert np.mean([line in trained for line in right]) > 0.95
        assert not any(line in trained for line in wrong)


def test_the_first_demonstration_tells_all_labels_so_their_floor_is_zero() -> None:
    task = build_task("labels", 0)
    assert task.floor == 0 and task.sample is not None
    gold = next(v for v in task.variants if v.name == "gold").sample
    assert gold is not None
    known = {
        pair[:2]: pair[2] for line in lines(gold(np.random.default_rng(0), 500)) for pair in line.split()[1:]
    }
    examples = task.sample(np.random.default_rng(1), 500)
    for line, counted in zip(lines(examples), examples.counted, strict=True):
        flips = {pair[2] != known[pair[:2]] for pair in line.split()[1:]}
        assert len(flips) == 1
        assert [bool(mark) for mark in counted[: len(line)]] == [
            place > 6 and letter in "AB" for place, letter in enumerate(line)
        ]


def test_the_beginning_of_a_sentence_tells_its_ending_so_the_floor_of_the_language_is_zero() -> None:
    task = build_task("language", 0)
    assert task.floor == 0 and task.sample is not None
    examples = task.sample(np.random.default_rng(0), 60_000)
    endings: dict[str, str] = {}
    for line, counted in zip(lines(examples), examples.counted, strict=True):
        begin = int(np.argmax(counted))
        assert counted[begin : len(line)].all()
        assert endings.setdefault(line[:begin], line[begin:]) == line[begin:]


# why a variant of `full` has fewer than a thousand different items: there are no more
FEW = {
    "facts/frequent": 64,  # names
    "copy_lengths/length_1": 26,  # letters
    "copy_lengths/length_2": 26**2,
    "modadd/direct": 0.25 * 23**2,  # a fifth of the pairs are held out; modadd_97 has more
    "labels/gold_0_shot": 32,  # words
    "labels/flipped_0_shot": 32,
    "labels/gold_1_shot": 32 * 31,  # two words
    "labels/flipped_1_shot": 32 * 31,
    "language/arithmetic": 200,  # pairs of digits, two wrong sums each
}


@pytest.mark.parametrize("name", yaml.safe_load(FULL.read_text())["weights"])
def test_each_variant_of_full_has_a_thousand_items_and_they_differ_where_there_are_so_many(name: str) -> None:
    settings = yaml.safe_load(FULL.read_text())
    tasks = TasksConfig(**settings)
    task = build_task(name, 0)
    for variant in task.variants:
        items = task_items(DataConfig(), tasks, task, variant.name)
        count = len(items.shot) if items.group is None else len(np.unique(items.group))
        assert count >= 1000
        if items.group is None and variant.scoring == "forced":  # and for each number of shots
            assert (items.shot == 0).sum() >= 1000
        most = FEW.get(f"{name}/{variant.name}")
        assert items.different is not None
        assert items.different >= 1000 if most is None else 0.7 * most < items.different <= most


@pytest.mark.parametrize("name", BUILDERS)
def test_a_task_renders_ascii_within_its_claims(name: str) -> None:
    task = build_task(name, 1)
    examples = task.sample(np.random.default_rng(0), 500)
    real = examples.tokens != PAD
    assert ((examples.tokens[real] >= 10) & (examples.tokens[real] < 127)).all()
    assert (examples.tokens[np.arange(500), real.sum(axis=1) - 1] == ord("\n")).all()
    assert not (examples.answer & ~examples.counted).any()
    assert not (examples.counted & ~real).any()
    assert examples.answer.any(axis=1).all()
    for variant in task.variants:
        assert 0 <= (task.chance if variant.chance is None else variant.chance) < task.ceiling <= 1
        valid = task.choices if variant.choices is None else variant.choices
        drawn = (variant.sample or task.sample)(np.random.default_rng(0), 200)
        if valid:
            assert set("".join(answers(drawn)).encode()) <= set(valid)


def test_shortcuts_find_what_is_there_to_find() -> None:
    def found(name: str, variant: str, task: Task | None = None) -> dict[str, float]:
        task = task or build_task(name, 0)
        (chosen,) = (v for v in task.variants if v.name == variant)
        train = training_rows(task, generator(0, "train"), 1024, 64)
        return shortcuts(train, evaluation_items(task, chosen, generator(0, "items"), 400, 64, False))

    assert found("bigram", "direct")["ngram"] == pytest.approx(0.9, abs=0.05)
    assert found("labels", "gold")["ngram"] == 1
    assert found("labels", "flipped")["ngram"] == 0
    assert 0.4 < found("brackets", "direct")["ngram"] < 0.9
    for guesser, score in found("parity", "direct").items():
        assert score == pytest.approx(0.5, abs=0.1), guesser
    assert max(found("copy", "direct").values()) == 0
    assert found("language", "semantics")["ngram"] == pytest.approx(0.5, abs=0.2)


def test_the_task_of_the_documentation_works() -> None:
    text = (Path(__file__).parents[1] / "docs" / "tasks.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    assert code.count("\n") < 30
    space: dict[str, Callable[[int], Task]] = {}
    exec(code, space)  # the documentation's own words
    task = space["counting"](0)
    rows = training_rows(task, generator(0, "train"), 64, 64)
    assert rows.tokens.shape == (64, 65)
    assert task.sample is not None
    examples = task.sample(np.random.default_rng(0), 50)
    for line, answer in zip(lines(examples), answers(examples), strict=True):
        assert line.count("a") == int(answer)


def test_a_task_is_one_file_and_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The documentation's recipe: nothing else has to know a task that is trained, scored, described and shown."""
    text = (Path(__file__).parents[1] / "docs" / "tasks.md").read_text()
    space: dict[str, Callable[[int], Task]] = {}
    exec(text.split("```python\n")[1].split("```")[0], space)
    monkeypatch.setitem(BUILDERS, "counting", space["counting"])
    (tmp_path / "a.txt").write_text("".join(f"line {i} of {i * i}\n" for i in range(2000)))
    data = DataConfig(kind="text", files=(str(tmp_path / "a.txt"),), heldout_rows=4)
    world = open_world(
        data, TasksConfig(weight=0.3, weights={"counting": 1.0}, items=30), tmp_path / "corpus"
    )
    assert [component.name for component in world.components] == ["text", "counting"]
    assert world.batches(0, 0, 1).counted[0, -1].any()
    assert len(world.items("counting", "direct").shot) >= 30
    assert world.tasks["counting"]["variants"]["direct"]["intended_class"] == "smooth"
    assert "how many of 9 letters are an a" in peek(world)
