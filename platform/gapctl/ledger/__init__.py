"""The ledger: what was computed, one folder per trial; what it says is true."""

from gapctl.ledger.documents import Result
from gapctl.ledger.lease import Lease, LeaseLostError, LeaseOwner
from gapctl.ledger.ledger import Ledger, LedgerSnapshot
from gapctl.ledger.preregistration import Declaration
from gapctl.ledger.trial import TrialFolder

__all__ = ["Declaration", "Lease", "LeaseLostError", "LeaseOwner", "Ledger", "LedgerSnapshot", "Result", "TrialFolder"]
