"""Write a finished run's model as transformers loads it: `python -m lmscale.export RUN --out DIR`.

Weights as safetensors, config.json, the tokenizer, and what the model is from: spec.json and provenance.json.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmscale import provenance
from lmscale.architectures import arrays_for, config_of
from lmscale.durable import explained, make_folder, replace
from lmscale.errors import UserError
from lmscale.jsonfiles import write_json
from lmscale.spec import RunSpec
from lmscale.text.vocab import PAD, START
from lmscale.trained import find_run, finished, params_of
from lmscale.vocabulary import SPECIALS, tokenizer_of


def export(folder: Path, out: Path, averaged: bool = False, corpora: Path | None = None) -> str:
    """Write a run's model into `out`, a folder that is not there yet or is empty; returns the class of transformers
    that loads it. averaged, corpora: see `params_of` and `tokenizer_of`. UserError before anything is written."""
    run = finished(folder)
    config = config_of(run)
    tokenizer = tokenizer_of(folder, run, corpora)
    arrays = arrays_for(run, params_of(folder, run, averaged))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"OUT={out}: there is something already; name a folder that is new or empty")
    make_folder(out)
    from safetensors.numpy import save

    for name in ("spec.json", provenance.FILE):
        if (folder / name).exists():  # a run of before has no provenance
            with explained(out / name):
                shutil.copyfile(folder / name, out / name)
    write_json(out / "tokenizer.json", tokenizer)
    write_json(out / "tokenizer_config.json", _tokenizer_config(run))
    replace(out / "model.safetensors", [save(arrays, {"format": "pt"})])
    write_json(out / "config.json", config)  # last: without it nothing loads the folder
    return str(config["architectures"][0])


def _tokenizer_config(run: RunSpec) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": run.shape.context,
        "pad_token": SPECIALS[PAD],
        "bos_token": SPECIALS[START],
        "clean_up_tokenization_spaces": False,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Export one run; 0, or 2 with one line where it cannot be."""
    parser = argparse.ArgumentParser(prog="python -m lmscale.export", description=__doc__)
    parser.add_argument("run", metavar="RUN", help="the folder of a run, or its id")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to; new or empty")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where an id is looked for (runs)")
    parser.add_argument("--corpora", type=Path, help="the folder of corpora, if it is elsewhere now")
    parser.add_argument("--averaged", action="store_true", help="the averaged weights (evaluation.average)")
    args = parser.parse_args(argv)
    try:
        folder = find_run(args.run, args.runs)
        name = export(folder, args.out, args.averaged, args.corpora)
    except UserError as error:
        print(f"lmscale: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"wrote {args.out}: {name}; transformers.AutoModelForCausalLM.from_pretrained({str(args.out)!r})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
