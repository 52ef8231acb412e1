"""A worker: a supervisor, the ledger process it forks, and the runners."""
