"""The page of findings: the paper's claims beside what the ledgers' sweeps found."""
