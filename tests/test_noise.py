"""Where the noise of a ladder comes from: components that are known are found; a report says them."""

import numpy as np
import pandas as pd
import pytest

from analysis.report.noise import noise_by_rung, two_way

SEEDS, ORDERS, BLOCKS = 40, 40, 8


def made(
    initialisation: float, order: float, interplay: float, windows: float, shared: float
) -> pd.DataFrame:
    """Make one size's runs, every seed with every order, whose components of ln loss are known."""
    rng = np.random.default_rng(3)
    of_seed, of_order = rng.normal(0, initialisation, SEEDS), rng.normal(0, order, ORDERS)
    of_block = rng.normal(0, shared * BLOCKS**0.5, BLOCKS)
    rows = []
    for seed in range(SEEDS):
        for number in range(ORDERS):
            run = of_seed[seed] + of_order[number] + rng.normal(0, interplay)
            blocks = 2 * np.exp(run + of_block + rng.normal(0, windows * BLOCKS**0.5, BLOCKS))
            rows.append(
                {"params": 1e4, "tokens": 1e6, "seed": seed, "order_seed": number, "loss": blocks.mean()}
                | {f"loss_block_{k}": value for k, value in enumerate(blocks, 1)}
            )
    return pd.DataFrame(rows)


def test_known_components_are_found() -> None:
    (rung,) = noise_by_rung(made(0.01, 0.006, 0.004, 0.002, 0.01))
    assert rung.free == SEEDS * ORDERS - 1 and rung.lower < rung.run < rung.upper
    assert rung.initialisation == pytest.approx(0.01, rel=0.3)
    assert rung.order == pytest.approx(0.006, rel=0.3)
    assert rung.interplay == pytest.approx(
        np.hypot(0.004, 0.002), rel=0.1
    )  # a run's windows are its own rest
    assert rung.windows == pytest.approx(0.002, rel=0.1)
    assert rung.shared == pytest.approx(0.01, rel=0.6)  # eight blocks


def test_the_rest_of_a_two_way_table_is_that_of_an_analysis_of_variance() -> None:
    values = np.array([[1.0, 2.0, 4.0], [2.0, 2.5, 5.5]])
    row, column, left = two_way(values)  # mean squares by hand: rows 1.5, columns 5.7917, rest .125
    assert left == pytest.approx(0.125) and row == pytest.approx((1.5 - 0.125) / 3)
    assert column == pytest.approx((5.7917 - 0.125) / 2, rel=1e-4)


@pytest.mark.parametrize("column", ["order_seed", "loss_block_1", "seed"])
def test_what_a_table_does_not_tell_is_left_out(column: str) -> None:
    orders = 1 if column == "order_seed" else 3
    table = made(0.01, 0.006, 0.004, 0.002, 0.01)
    table = table[(table["seed"] < 3) & (table["order_seed"] < orders)]
    blocks = [name for name in table if column == "loss_block_1" and str(name).startswith("loss_block")]
    rungs = noise_by_rung(table.drop(columns=blocks or [column]))
    if column == "seed":
        assert rungs == []
    else:
        assert (rungs[0].order is None) == (column == "order_seed")
        assert (rungs[0].windows is None) == (column == "loss_block_1")


def test_seeds_of_different_rates_are_no_noise() -> None:
    table = made(0.01, 0, 0, 0, 0).query("order_seed == 0")
    assert noise_by_rung(table.assign(learning_rate=np.arange(len(table)))) == []
    repeated = pd.concat([table.assign(lr=rate, loss=rate * table["loss"]) for rate in (1, 2)])
    assert noise_by_rung(repeated) == []  # two rates of a seed, in a column of another name
