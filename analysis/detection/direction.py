"""Tell whether more or less of a metric is better, told from its name by whole words, or by the person who asks."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from analysis.errors import UserError

# Words of which less is better, and words of which more is; of several the last one decides (an accuracy of
# error correction is an accuracy, a match error rate an error), and of none, more is better.
_LESS_WORDS = """
    nll nlls loss losses ppl perplexity perplexities brier bits bit nats nat bpb bpc bpw bpt entropy
    crossentropy xent ce logloss surprisal error errors err errs errorrate ter wer cer mer der mae mse
    mape smape rmse rmsle nrmse rms medae ece mce distance dist levenshtein deviation divergence kl kld
    fid fad mistakes wrong incorrect misses failures fpr fnr toxicity regret hallucination
    hallucinations
"""
_MORE_WORDS = """
    acc accuracy wacc f1 f2 fbeta em match matches auc auroc auprc roc precision recall sensitivity
    specificity mcc correlation pearson spearman kendall kappa bleu sacrebleu rouge chrf meteor comet
    bertscore r2 pass solved win wins winrate likelihood loglikelihood loglik logprob logprobs psnr ssim
    iou dice ndcg mrr map hits ap f1score success reward similarity skill reduction improvement gain
"""
_LESS, _MORE = frozenset(_LESS_WORDS.split()), frozenset(_MORE_WORDS.split())
# A probability of an error is an error: these decide only where nothing else does.
_PROBABILITY = frozenset({"prob", "probs", "probability", "probabilities"})
# Turned round: neg_log_loss, one_minus_wer, negative_log_likelihood.
_TURNED = frozenset({"neg", "negative", "negated", "minus", "inverse", "inverted"})
_COMPLEMENT = re.compile(r"\s*1\s*[-\u2212]\s*([A-Za-z0-9]+)")
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def lower_is_better(metric: str) -> bool:
    """Say whether a metric's name means that less is better (nll, WER, edit_distance, bits_per_byte, ...).

    Names are split at everything that is no letter or digit, between digits and letters, and at the capitals of
    camelCase; a word counts whole, so that orbits and glosses hold neither bits nor loss.
    """
    less: bool | None = None
    complement = _COMPLEMENT.match(metric)
    turned = complement is not None and complement[1].lower() in _LESS | _MORE
    for word in re.findall(r"[A-Za-z0-9]+", metric):
        # f1 and r2 are words; ter2 and mse10 hold one.
        for part in [word] if word.lower() in _LESS | _MORE else _PARTS.findall(word):
            small = part.lower()
            turned |= small in _TURNED
            if small in _LESS or small in _MORE:
                less = small in _LESS
            elif small in _PROBABILITY and less is None:
                less = False
    return bool(less) != turned if less is not None else False


@dataclass(frozen=True)
class Direction:
    """The direction that the person who asks gives metrics (or of tasks, where the table has no metric) by name."""

    lower: frozenset[str] = frozenset()
    higher: frozenset[str] = frozenset()

    def less(self, task: str, metric: str) -> bool:
        """Say whether less is better: as the person says, and by the metric's name otherwise."""
        name = metric or task
        if name in self.lower or name in self.higher:
            return name in self.lower
        return lower_is_better(metric)


def direction(lower: Collection[str], higher: Collection[str], known: Iterable[tuple[str, str]]) -> Direction:
    """Check what was said against the (task, metric) pairs of the table. UserError for an unknown name, and for one
    that was said to be both."""
    both = sorted(set(lower) & set(higher))
    if both:
        raise UserError(f"{both[0]!r} is given as lower-is-better and as higher-is-better; give it once")
    names = list(dict.fromkeys(metric or task for task, metric in known))
    for name in (*lower, *higher):
        if name not in names:
            have = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
            raise UserError(f"lower or higher is better: {name!r} is no metric of the table; it has {have}")
    return Direction(frozenset(lower), frozenset(higher))
