"""Coverage-guided runs over every parser of ledger/ and anchor/: `make fuzz`.

    python tests/fuzz/run.py [RUNS [NAME ...]]

Each parser (parsers.py) runs RUNS inputs, 200,000 unless told, in a process of its own, from a
folder that holds its seeds. libFuzzer (atheris) keeps what reaches new code and changes it further.
An exception that is not the parser's error, or bytes that it would write otherwise, end that run:
its last input is printed and kept in .fuzz/, and the exit code is 1.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUNS = 200_000
MAX_BYTES = 4_096
FINDINGS = ROOT / ".fuzz"


def main(arguments: list[str]) -> int:
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    if arguments[:1] == ["--one"]:
        return _one(arguments[1], arguments[2:])
    from fuzz.parsers import PARSERS

    runs = int(arguments[0]) if arguments else RUNS
    found = [name for name in arguments[1:] or PARSERS if not _run(name, runs)]
    print(f"{len(found)} of {len(arguments[1:] or PARSERS)} parsers have findings: {found}")
    return 1 if found else 0


def _run(name: str, runs: int) -> bool:
    """Run one parser in a process of its own and print what came of it."""
    from fuzz.parsers import seeds

    FINDINGS.mkdir(exist_ok=True)
    prefix = FINDINGS / (re.sub(r"\W+", "-", name) + "-")
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds(name)):
            (Path(folder) / f"seed-{number}").write_bytes(seed)
        limits = [f"-runs={runs}", f"-max_len={MAX_BYTES}", "-seed=1", "-timeout=10"]
        started = time.monotonic()
        done = subprocess.run(
            [
                sys.executable,
                __file__,
                "--one",
                name,
                folder,
                *limits,
                f"-artifact_prefix={prefix}",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        kept = sum(1 for _ in Path(folder).iterdir()) - len(seeds(name))
    coverage = re.findall(r"cov: (\d+) ft: (\d+)", done.stderr)
    reached = "edges {}, features {}".format(*coverage[-1]) if coverage else "no coverage"
    said = "no finding" if done.returncode == 0 else f"FINDING\n{done.stdout}{done.stderr}"
    seconds = time.monotonic() - started
    print(
        f"{name}: {runs:,} runs from {len(seeds(name))} seeds in {seconds:.0f} s, {reached},"
        f" {kept} inputs kept: {said}",
        flush=True,
    )
    return done.returncode == 0


def _one(name: str, rest: list[str]) -> int:
    import atheris

    with atheris.instrument_imports(include=["ledger", "anchor"]):
        from fuzz.parsers import PARSERS, attempt
    parser = PARSERS[name]
    atheris.Setup([sys.argv[0], *rest], lambda data: attempt(parser, data) and None)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
