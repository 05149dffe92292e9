"""`kluis ledger prune`, from what would go to what went."""

import datetime as dt

from kluis_command import run
from role_holders import Holder, approve

ROLES = ("operator", "officer", "archivist")
TOMORROW = (dt.datetime.now().astimezone().date() + dt.timedelta(days=1)).isoformat()


def test_a_prune_is_shown_proposed_approved_and_carried_out(kluis, desk, monkeypatch):
    lines = desk / "many.jsonl"
    lines.write_text("".join(f'{{"bsn": "{n}", "naam": "A"}}\n' for n in range(300)))
    command = ("import", lines, "--category", "nieuwsbrief", "--subject-field", "/bsn")
    assert kluis(*command).code == 0
    assert kluis("ledger", "prune", "--before", TOMORROW).code == 2
    assert kluis("checkpoint").code == 0
    refused = kluis("ledger", "prune", "--before", TOMORROW)
    assert refused.code == 3
    assert "'kluis member found' names the first members" in refused.err
    holders = {role: Holder(kluis, monkeypatch, role) for role in ROLES}
    members = [word for one in holders.values() for word in ("--member", one.named)]
    assert holders["operator"]("member", "found", *members).code == 7
    approve(holders, 1, "officer", "archivist")
    refused = kluis("ledger", "prune", "--before", TOMORROW)
    assert refused.code == 3
    assert "kluis anchor run" in refused.err
    assert run("-C", kluis.folder, "anchor", "run").code == 0

    bad = kluis("ledger", "prune", "--before", "2020-01-01")
    assert bad.code == 2
    assert "the oldest is of " in bad.err
    shown = kluis("ledger", "prune", "--before", TOMORROW)
    assert shown.code == 0
    assert "goes      1 bundle of 256 entries and 1 tile" in shown.text
    assert "stays     300 below it of kind version, with proof" in shown.text
    document = kluis("ledger", "prune", "--before", TOMORROW, "--json").json
    assert document["kept"] == {"version": 300, "governance": 1}
    assert kluis("ledger", "prune").code == 3

    proposed = holders["operator"]("ledger", "prune", "--before", TOMORROW)
    assert proposed.code == 7
    assert "approve 2" in proposed.err
    assert approve(holders, 2, "archivist").code == 0
    published = desk / "published"
    assert kluis("ledger", "export", published).code == 0
    done = kluis("ledger", "prune", "--json")
    assert done.code == 0
    assert (done.json["minimum"], done.json["index"], done.json["kept"]) == (301, 301, 301)
    assert kluis("ledger", "export", published).code == 0
    assert not (published / "tile/entries/000").exists()
    audit = kluis("audit")
    assert audit.code == 0
    assert "The ledger was pruned to 301 by entry 301." in audit.text
    again = kluis("ledger", "prune", "--before", TOMORROW)
    assert again.code == 3
