"""What the page of findings says whatever was found."""

from typing import Final

INTRODUCTION: Final = (
    "What the sweeps of this repository found about the claims of arXiv 2404.07983 (Schrodi and others, *Two Effects, "
    "One Trigger*), and about what it left open. A hypothesis states its direction and the smallest effect that "
    "counts before its first training, or its verdict is marked exploratory; verdicts go by the whole interval and by "
    "p after Holm over the sweep's file, with seeds as replicates ([statistics](statistics.md)). `gapctl findings` "
    "makes this page from the ledger; nothing in it is written by hand but this paragraph, the next section, how to "
    "read a table, the wording of the claims and the notes below some of them."
)
REACH: Final = (
    "Not far, and each verdict is about less than the claim above it. On MAD, models of a few hundred thousand "
    "parameters see 28-pixel digits whose factors are independent and uniform, and captions made of 26 words in which "
    "nothing is misspelt, implied or wrong. That is what makes the imbalance a number of bits, and an intervention on "
    "it clean: a verdict that speaks for a claim shows that the imbalance is enough to cause the effect in such "
    "models, and by how much. It does not show that the imbalance causes the gap of a CLIP that was trained on 400 "
    "million pairs, where captions differ from images in many ways at once, factors go together, encoders start "
    "elsewhere and training is longer by five orders of magnitude. A refuted verdict is worth as much here and as "
    "little there: it shows that the claim does not hold everywhere, in particular not in small models early in "
    "training. Three things in these trainings are known to move results and are not the paper's: the recipe, as the "
    "paper's MAD recipe is not public; the length of training, since laptop scales end where the loss still falls; "
    "and the gallery, as entropies and recalls depend on its size. Seeds change the initialisation and the order of "
    "samples, not the data: intervals hold for other trainings of the same kind, not for other data sets. The sweeps "
    "on real pictures (`cc12m_*`) take 2,237 pictograms with lists of keywords and are no large step towards CLIP. "
    "Each file's `paper` scale is stated and priced; where no verdict of that scale stands below, this ledger does not "
    "hold it."
)
READING: Final = (
    "An effect is in the response's own unit, with its interval. Each verdict is about our test as it stands; *for the "
    "claim* says what that means for the claim above, as some tests are of its opposite, and some of what rivals it, "
    "of something beside it, or of whether what was to be changed did change (a dash). A test *cannot say* where such "
    "a check fails that it leans on: a comparison of temperatures says nothing where the temperature did not move. "
    "*What would change it* names the seeds that would probably settle an inconclusive verdict, and for the others the "
    "next longer scale that this ledger does not hold; another may. † marks an average over treatments under some of "
    "which the effect has the opposite sign."
)
UNTESTED: Final = "No sweep of this ledger tests it yet."
NEITHER: Final = "The rows below do not decide it."
OTHER: Final = "Other hypotheses"
