"""The ledger: one folder per trial with all that was computed, one declaration per sweep, leases and searches.

Read `ledger.py` first, then `trial.py` (a trial's files), `lease.py` (who trains a trial) and `preregistration.py`
(what was declared before the first trial began).
"""

from gapctl.ledger.json_files import Result
from gapctl.ledger.lease import Lease, LeaseLostError, LeaseOwner
from gapctl.ledger.ledger import Ledger, LedgerSnapshot
from gapctl.ledger.preregistration import Declaration
from gapctl.ledger.trial import TrialFolder

__all__ = ["Declaration", "Lease", "LeaseLostError", "LeaseOwner", "Ledger", "LedgerSnapshot", "Result", "TrialFolder"]
