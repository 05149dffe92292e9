"""What of the ledger touches a network: nothing else in this room does."""
