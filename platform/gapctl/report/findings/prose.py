"""What the page of findings says whatever was found."""

from typing import Final

INTRODUCTION: Final = (
    "What the sweeps of this repository found about the claims of arXiv 2404.07983 (Schrodi and others, *Two Effects, "
    "One Trigger*). `gapctl findings` makes this page from the ledger. Written by hand are only this paragraph, how to "
    "read it, how far it reaches, the wording of the claims, which rows were withdrawn and why, and the notes that "
    "`--notes` gives."
)
REACH: Final = (
    "Not far. On MAD, models of a few hundred thousand parameters see 28-pixel digits whose factors are independent "
    "and uniform, with captions of 26 words in which nothing is misspelt, implied or wrong. That makes the imbalance a "
    "number of bits and an intervention on it clean. It shows what is enough to cause an effect in such models. It "
    "does not show what causes the gap of a CLIP that was trained on 400 million pairs. Three things move results and "
    "are not the paper's: the recipe, as the paper's MAD recipe is not public; the length of training; and the size "
    "of the gallery. Seeds change the initialisation and the order of samples, not data or recipe: an interval holds "
    "for other seeds of the same recipe. The longest run decides what is said; shorter ones are its path."
)
READING: Final = (
    "*Key number* is one effect in its own unit, with its interval over seeds. The next column counts the rows below "
    "that speak for the claim, against it, or leave it open; rows that are struck through count for nothing. *Asked* "
    "is how often the questions behind these rows were asked, redesigns included."
)
ROWS: Final = (
    "A verdict is about our test; *for the claim* says what it means for the claim. Some tests are of a claim's "
    "opposite: refuted, they speak for it only where the whole interval lies inside the band of effects too small to "
    "count. A dash is a row beside the claim. *Cannot say* is a row whose check failed. *Not learned* and *withdrawn* "
    "rows are struck through. *Redesigned* questions had been asked before; the last table has their first answers. "
    "*p, page* is of the whole claim after Holm over all confirmatory rows of this page; the verdict goes by Holm over "
    "its file ([statistics](statistics.md)). † marks an average over treatments under some of which the effect turns."
)
UNTESTED: Final = "No sweep of this ledger tests it yet."
NEITHER: Final = "The rows below do not decide it."
ESTIMANDS: Final = (
    "Two estimands of the same correlation (attribute accuracy with object accuracy, Kendall's τ). The claim is about "
    "models that differ in data, size and training, so it takes the first. Where no hypothesis below declares an "
    "estimand, it was computed after the fact, and is exploratory."
)
OTHER: Final = "Other hypotheses"
