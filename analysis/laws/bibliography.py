"""The papers that laws come from, as BibTeX; a law's `reference` names them as "Author et al. year"."""

import re

# Author, year: all authors' names as arXiv has them begin with the first; title; arXiv number.
PAPERS = {
    "Hestness et al. 2017": (
        "Hestness, Joel and others",
        "Deep Learning Scaling is Predictable, Empirically",
        "1712.00409",
    ),
    "Kaplan et al. 2020": (
        "Kaplan, Jared and others",
        "Scaling Laws for Neural Language Models",
        "2001.08361",
    ),
    "Henighan et al. 2020": (
        "Henighan, Tom and others",
        "Scaling Laws for Autoregressive Generative Modeling",
        "2010.14701",
    ),
    "Hoffmann et al. 2022": (
        "Hoffmann, Jordan and others",
        "Training Compute-Optimal Large Language Models",
        "2203.15556",
    ),
    "Caballero et al. 2023": ("Caballero, Ethan and others", "Broken Neural Scaling Laws", "2210.14891"),
    "Muennighoff et al. 2023": (
        "Muennighoff, Niklas and others",
        "Scaling Data-Constrained Language Models",
        "2305.16264",
    ),
    "Gadre et al. 2024": (
        "Gadre, Samir Yitzhak and others",
        "Language models scale reliably with over-training and on downstream tasks",
        "2403.08540",
    ),
    "Ludziejewski et al. 2025": (
        "Ludziejewski, Jan and others",
        "Joint {MoE} Scaling Laws: Mixture of Experts Can Be Memory Efficient",
        "2502.05172",
    ),
    "Li et al. 2025": (
        "Li, Houyi and others",
        "Predictable Scale: Part {II}, {Farseer}: A Refined Scaling Law in Large Language Models",
        "2506.10972",
    ),
}


def bibtex(reference: str) -> str:
    """Write the entries of the papers that `reference` names; empty where it names none that is known."""
    entries = []
    for name in re.findall(r"\w+ et al\. \d{4}", reference):
        if name not in PAPERS:
            continue
        author, title, number = PAPERS[name]
        word, year = name.split()[0].lower(), name[-4:]
        entries.append(
            f"@misc{{{word}{year},\n  author = {{{author}}},\n  title = {{{title}}},\n  year = {{{year}}},\n"
            f"  eprint = {{{number}}},\n  archivePrefix = {{arXiv}},\n}}"
        )
    return "\n".join(dict.fromkeys(entries))
