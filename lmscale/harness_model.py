"""A trained run as a model of the lm-evaluation-harness, which is imported here and nowhere else but in `harness`.

A text is scored as `evaluate` scores the rows of a task: it begins as a document does, prompt and answer are turned
into tokens apart, and an answer is the greedy one where each of its tokens alone is the likeliest.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from lm_eval.api.model import LM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from lmscale import model
from lmscale.errors import UserError
from lmscale.generate import generate
from lmscale.loss import CHUNK
from lmscale.text.vocab import END_OF_FILE, START
from lmscale.trained import Trained

SHORTEST = 32  # tokens of a padded row, whose length doubles: fewer would be programs more
ROWS = 64  # of a forward pass


class LmscaleLM(LM):
    """tokenizer: of the library tokenizers, the run's own (`vocabulary.tokenizer_of`)."""

    def __init__(self, trained: Trained, tokenizer: Any) -> None:
        super().__init__()
        self.trained, self.tokenizer = trained, tokenizer
        self.context = trained.config.shape.context

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Score each answer after its prompt: nats, and whether it is the greedy one."""
        pairs = [request.args for request in requests]
        return self._scored([(self._begun(prompt), self._ids(answer)) for prompt, answer in pairs])

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Score whole texts, in windows of the context that do not overlap."""
        windows = [
            [
                make_disjoint_window(pair)
                for pair in get_rolling_token_windows(
                    self._ids(request.args[0]), END_OF_FILE, self.context, 1
                )
            ]
            for request in requests
        ]
        scores = iter(self._scored([pair for text in windows for pair in text]))
        return [sum(next(scores)[0] for _ in text) for text in windows]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Go on greedily from each prompt, of which the end is seen that leaves room for what is written."""
        written: list[str] = []
        for start in range(0, len(requests), ROWS):
            asked = [request.args for request in requests[start : start + ROWS]]
            rows = [self._prompt(*arguments) for arguments in asked]
            given = np.zeros((ROWS, self.context + 1), np.int32)  # one program for any number
            known = np.ones(ROWS, np.int32)
            for row, (prompt, _, _) in enumerate(rows):
                given[row, : len(prompt)], known[row] = prompt, len(prompt)
            tokens = np.asarray(self._going_on(self.trained.params, given, known))
            for row, (prompt, most, until) in enumerate(rows):
                text = self.tokenizer.decode(tokens[row, len(prompt) : len(prompt) + most].tolist())
                ends = [at for stop in until if (at := text.find(stop)) >= 0]
                written.append(text[: min(ends)] if ends else text)
        return written

    def _prompt(self, text: str, how: dict[str, Any]) -> tuple[list[int], int, list[str]]:
        """The tokens of a prompt, the most tokens to write, and what ends them."""
        if how.get("do_sample") and how.get("temperature", 1.0):
            raise UserError("a task asks for sampled answers (do_sample); only greedy ones are generated")
        most = min(int(how.get("max_gen_toks", self.context // 2)), self.context - 1)
        until = how.get("until") or []
        stops = [until] if isinstance(until, str) else list(until)
        return self._begun(text)[-(self.context + 1 - most) :], most, [stop for stop in stops if stop]

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def _begun(self, prompt: str) -> list[int]:
        """A prompt as a document begins, or as the row of a task that writes `<|start|>` itself."""
        ids = self._ids(prompt)
        return ids if ids[:1] == [START] else [END_OF_FILE, *ids]

    def _scored(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        """Score (tokens before, tokens scored), the first of them cut off where there are more than the context."""
        for _, answer in pairs:
            if len(answer) > self.context:
                raise UserError(
                    f"an answer of {len(answer)} tokens, where data.context={self.context}: leave its task out, or "
                    "train with more context"
                )
        found: list[tuple[float, bool]] = [(0.0, True)] * len(pairs)
        for places, width in self._batches([len(a) + len(b) for a, b in pairs]):
            tokens = np.zeros((self._rows(width), width + 1), np.int32)
            scored = np.zeros((self._rows(width), width), bool)
            for row, place in enumerate(places):
                before, answer = pairs[place]
                ids = (before + answer)[-(width + 1) :]
                tokens[row, : len(ids)] = ids
                scored[row, len(ids) - 1 - len(answer) : len(ids) - 1] = True
            log_p, alone = (np.asarray(x) for x in self._targets(self.trained.params, tokens))
            for row, place in enumerate(places):
                mine = scored[row]
                total = float(log_p[row, mine].sum(dtype=np.float64))
                found[place] = (total, bool(alone[row, mine].all()))
        return found

    def _batches(self, lengths: Sequence[int]) -> Iterator[tuple[list[int], int]]:
        """Rows of about one length go together: (their places, the positions that a row is padded to)."""
        widths = [self._width(length - 1) for length in lengths]
        for width in sorted(set(widths)):
            places = [place for place, its in enumerate(widths) if its == width]
            for start in range(0, len(places), self._rows(width)):
                yield places[start : start + self._rows(width)], width

    def _width(self, positions: int) -> int:
        return min(max(SHORTEST, 1 << (positions - 1).bit_length()), self.context)

    def _rows(self, width: int) -> int:
        return max(1, min(ROWS, CHUNK // (width * self.trained.config.shape.vocab_size)))

    @cached_property
    def _targets(self) -> Any:
        """(params, tokens [B, T + 1]) -> log probabilities of the targets [B, T], and whether each is alone the
        likeliest: a tie is no hit, as in `evaluate`."""
        forward = model.forward(self.trained.config.shape)

        def targets(params: Any, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits = forward(params, tokens[:, :-1])
            picked = jnp.take_along_axis(logits, tokens[:, 1:, None], axis=-1)
            alone = (logits >= picked).sum(axis=-1) == 1
            return picked[..., 0] - jax.nn.logsumexp(logits, axis=-1), alone

        return jax.jit(targets)

    @cached_property
    def _going_on(self) -> Any:
        decoder = model.decoder(self.trained.config.shape)
        key = jax.random.key(0)
        return jax.jit(
            lambda params, given, known: generate(decoder, params, given, jnp.asarray(known), 0.0, key)
        )
