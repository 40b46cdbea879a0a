"""The ledger: what was computed, one folder per trial; what it says is true."""

from gapctl.ledger.documents import Result
from gapctl.ledger.lease import Claimant, Lease, LeaseLostError
from gapctl.ledger.ledger import AsRead, Ledger
from gapctl.ledger.preregistration import Declaration
from gapctl.ledger.trial import TrialFolder

__all__ = ["AsRead", "Claimant", "Declaration", "Lease", "LeaseLostError", "Ledger", "Result", "TrialFolder"]
