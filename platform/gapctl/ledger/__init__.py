"""The ledger: what was computed, one folder per trial; what it says is true."""

from gapctl.ledger.as_read import AsRead
from gapctl.ledger.declaration import Declaration
from gapctl.ledger.lease import Claimant, Lease, LeaseLostError
from gapctl.ledger.ledger import Ledger
from gapctl.ledger.result import Result
from gapctl.ledger.trial_folder import TrialFolder

__all__ = ["AsRead", "Claimant", "Declaration", "Lease", "LeaseLostError", "Ledger", "Result", "TrialFolder"]
