"""The law as pure functions: selection lists, retention dates and erasure decisions."""
