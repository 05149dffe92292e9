"""The documents say what the code does."""

import re
from pathlib import Path

import pytest
from kluis_command import run

import cli
from commands.exitcodes import ExitCode

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


LEDGER = (ROOT / "docs" / "ledger.md").read_text()


def fenced(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_readme_python_runs_as_shown(tmp_path, monkeypatch, capsys):
    """The README's example, in an empty folder, prints the refusal and the erasure it promises."""
    monkeypatch.chdir(tmp_path)
    (example,) = fenced("python")
    exec(compile(example, "README.md", "exec"), {})
    refusal, erasure, status = capsys.readouterr().out.splitlines()
    assert refusal == "D8 Art. 17(3)(b) GDPR 2033-06-30"
    assert "was erased" in erasure
    assert status == "irrecoverable"
    assert run("verify", "evidence.json", "--trust", "trust.json").code == 0


def test_governance_python_runs_as_shown(tmp_path, monkeypatch, capsys):
    """The example of a destruction list: refused, then missing an approval, then erased by D9."""
    monkeypatch.chdir(tmp_path)
    (example,) = fenced("python", LEDGER)
    exec(compile(example, "docs/ledger.md", "exec"), {})
    refusal, missing, code = capsys.readouterr().out.splitlines()
    assert "list" in refusal
    assert missing == "1 more of 2 approvals by officer or archivist"
    assert code == "D9"


def test_readme_transcript_uses_only_commands_that_exist():
    (transcript,) = fenced("console")
    used = set(re.findall(r"(?:^\$ |[;&] )kluis (\w+)", transcript, re.MULTILINE))
    shown = {"init", "put", "erase", "shred", "certificate", "trust", "verify", "restore"}
    assert shown <= used <= set(cli.COMMANDS)
    first = README.splitlines().index("```console") + 1
    assert first + transcript.count("\n") < 45


def test_readme_has_each_exit_code():
    listed = {int(code) for code in re.findall(r"^\| (\d) \|", README, re.MULTILINE)}
    assert listed == {int(code) for code in ExitCode}


def modules():
    for room in ("vault", "ledger", "anchor", "policy", "commands"):
        yield from sorted((ROOT / room).rglob("*.py"))


def test_each_test_that_a_module_names_exists():
    named = {
        (path, name)
        for path in modules()
        for name in re.findall(r"tests/[\w/]+\.py", path.read_text())
    }
    missing = [(str(path), name) for path, name in named if not (ROOT / name).is_file()]
    print(f"{len(named)} references to tests")
    assert missing == []
    assert len(named) > 25


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs" / "decisions").glob("*.md")), ids=lambda p: p.name
)
def test_each_decision_has_its_three_parts(path):
    text = path.read_text()
    for part in ("## Context", "## Choice", "## Rejected"):
        assert part in text
    assert len(text.split()) < 400
