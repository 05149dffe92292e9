"""Anchoring checkpoints outside the house, evidence files and their offline verifier."""
