"""The private chain: entries, tree, checkpoints and proofs. Holds no personal data."""
