"""A user's script: every public name of `analysis`, and lmscale.load, as docs/api.md has them."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import lmscale
from analysis import (
    Citation,
    Comparison,
    Curves,
    Design,
    Emergence,
    Fit,
    Forecast,
    IsoFlop,
    Ranking,
    Request,
    Tuning,
    UserError,
    Verification,
    Warn,
    cite,
    compare,
    compare_all,
    curves,
    design,
    emergence,
    extrapolate,
    fit,
    fit_shared,
    forecast,
    isoflop,
    load_table,
    own_form,
    tune,
    verify,
)

table: pd.DataFrame = load_table(Path("runs.csv"), columns="params=N", where="D > 1e8")
fitted: Fit = fit(table, "chinchilla", bootstrap=100, level=0.9)
alpha: float = fitted.params["alpha"]
low, high = fitted.conf_int(0.5)["alpha"]
width: float = high - low
warnings: tuple[Warn, ...] = fitted.warnings
said: str = fitted.warnings[0].message + fitted.warnings[0].code.sentence + fitted.status.sentence
residual: float = float(fitted.residuals().max())
predicted: float = float(
    fitted.predict({"params": table["N"].to_numpy(), "tokens": table["D"].to_numpy()})[0]
)
drawn: Figure = fitted.plot()
by_corpus: dict[str, Fit] = fit_shared({"web": table, "code": table})
law = own_form(
    lambda p, x: p.E + p.A / x.params**p.alpha, {"E": (0.0, 9.0), "A": (0.1, 1e6), "alpha": (0.01, 2.0)}
)
mine: Fit = fit(table, law)

future: Forecast = extrapolate(fitted, budgets=[1e21], at=[{"params": 1e9, "tokens": 2e10}])
losses: list[float] = [p.loss for p in future.predictions]
frame: pd.DataFrame = future.to_frame()
optima: IsoFlop = isoflop(table, method="parabola")
sizes: list[float] = [optimum.params for optimum in optima.optima]
rates: Tuning = tune(table, rule=".3/d_model")
chosen: Design = design(table, table, at={"params": 1e9, "tokens": 2e10}, budget=1e21)
promised: dict[str, object] = forecast(table, Request(at={"params": 1e9, "tokens": 2e10}), Path("forecasts"))
scored: Verification = verify(Path("forecasts"), table)
pair: Comparison = compare(table, table, targets=[1e15])
ranked: Ranking = compare_all({"a": table, "b": table, "c": table})
whole: Curves = curves(table, at=[{"params": 1e6, "tokens": 2e8}])
stated: Citation = cite(table)
found: Emergence = emergence(table, draws=100)
labels: list[str] = [task.label for task in found.tasks]
axes: Axes = found.plot().axes[0]
try:
    load_table("absent.csv")
except UserError as error:
    print(str(error), said, alpha, width, predicted, residual, losses, sizes)

config, params, logits = lmscale.load("runs/cpu/1234", averaged=True)
layers: int = config.shape.n_layer
print(layers, lmscale.__version__, sorted(params), logits([[1, 2]]).shape)
