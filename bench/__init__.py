"""The benchmarks: each operation beside a straight-line floor, in one run (`python -m bench`)."""
