"""`kluis backup`, `restore` and `ledger export`: what scripts and people see of them (ER6)."""

import http.server
import json
import threading

import pytest
from kluis_command import run
from watched_kluis import WatchedKluis

RESTORED_KEYS = {
    "folder",
    "records",
    "versions",
    "replayed",
    "findings",
    "leaves",
    "leaves_added",
    "generations",
    "signs",
}
DRILLED_KEYS = {
    "passed",
    "records",
    "readable",
    "unreadable",
    "resurrected",
    "newer",
    "replayed",
    "refusal",
}


@pytest.fixture
def backed_up(kluis, desk):
    """Two records that both backups hold; the first was erased since."""
    kept, erased = kluis.put(), kluis.put()
    data, keys = kluis("backup", "data", "data.kluis"), kluis("backup", "keys", "keys.kluis")
    assert data.code == keys.code == 0
    kluis.erase(erased)
    return kept, erased


def restore(kluis, *arguments, folder="new", data="data.kluis", keys=("keys.kluis",)):
    named = [word for one in keys for word in ("--keys", one)]
    return kluis("restore", folder, "--data", data, *named, *arguments)


def made(desk):
    """What a restore has left, whole or half."""
    return sorted(path.name for path in desk.iterdir() if path.name.startswith("new"))


def test_backups_say_what_they_hold_and_are_for_their_owner_alone(kluis, desk):
    kluis.erase(kluis.put())
    kluis.put()
    said = kluis("backup", "data", "data.kluis", "--json").json
    assert (said["records"], said["erased"], said["versions"]) == (1, 1, 1)
    assert said["bytes"] == (desk / "data.kluis").stat().st_size
    full = kluis("backup", "keys", "keys.kluis", "--json").json
    kluis.put()
    later = kluis("backup", "keys", "later.kluis", "--since", "keys.kluis", "--json").json
    assert (full["since"], later["since"]) == (None, "keys.kluis")
    for name in ("data.kluis", "keys.kluis", "later.kluis"):
        assert (desk / name).stat().st_mode & 0o777 == 0o600


def test_a_restore_erases_again_what_the_published_ledger_calls_erased(kluis, desk, backed_up):
    kept, erased = backed_up
    assert kluis("ledger", "export", "published").code == 0
    ran = restore(kluis, "--ledger", "published", "--signer", kluis.folder / "signer", "--json")
    assert set(ran.json) == RESTORED_KEYS
    assert (ran.json["records"], ran.json["replayed"]["erasures"], ran.json["signs"]) == (
        1,
        1,
        True,
    )
    new = WatchedKluis(desk / "new")
    assert new("get", erased).code == 4
    assert new.holds(kept)
    assert new("checkpoint").code == 0
    assert new("audit", "--json").json["faults"] == []


def test_the_published_ledger_can_lie_on_a_web_server(kluis, desk, backed_up):
    assert kluis("ledger", "export", "published").code == 0

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=desk / "published")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ran = restore(kluis, "--ledger", f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert ran.code == 0
    assert WatchedKluis(desk / "new")("get", backed_up[1]).code == 4
    assert ran.text.splitlines()[-1].startswith("signer     missing")


def test_an_export_writes_only_what_is_new(kluis, desk, backed_up):
    first = kluis("ledger", "export", "published", "--json").json
    again = kluis("ledger", "export", "published", "--json").json
    assert (first["kept"], again["written"]) == (0, 0)
    assert (again["size"], again["kept"]) == (first["size"], first["written"])


@pytest.mark.parametrize(
    "rootkey", [(), ("--rootkey", "stale.key")], ids=["where it lay", "a copy"]
)
def test_keys_from_before_the_last_shred_are_refused_and_nothing_is_made(
    kluis, desk, backed_up, rootkey
):
    (desk / "stale.key").write_bytes((kluis.folder / "keys" / "root-1.key").read_bytes())
    assert kluis("shred").code == 0
    assert kluis("ledger", "export", "published").code == 0
    ran = restore(kluis, "--ledger", "published", *rootkey)
    assert ran.code == 1
    assert "generation 1 of the ordinary key tree, which was destroyed by a shred" in ran.err
    assert made(desk) == []
    # Today's keys go with the same old data.
    assert kluis("backup", "keys", "today.kluis").code == 0
    assert restore(kluis, "--ledger", "published", keys=["today.kluis"]).code == 0
    assert WatchedKluis(desk / "new")("get", backed_up[1]).code == 4


def test_a_drill_makes_no_folder_and_says_whether_it_passed(kluis, desk, backed_up):
    before = kluis.state()
    ran = restore(kluis, "--drill", "--json")
    assert (ran.code, set(ran.json)) == (0, DRILLED_KEYS)
    assert (ran.json["passed"], ran.json["replayed"], ran.json["resurrected"]) == (True, 1, 0)
    assert kluis("shred").code == 0
    refused = kluis("restore", "new", "--data", "data.kluis", "--keys", "keys.kluis", "--drill")
    assert refused.code == 1
    assert "did not pass: these keys are of generation 1" in refused.err
    assert made(desk) == []
    assert before[0]["versions"] == kluis.state()[0]["versions"]


def test_a_chain_is_restored_in_its_order(kluis, desk, backed_up):
    kept, _ = backed_up
    later = kluis.put()
    kluis("backup", "data", "data-2.kluis")
    kluis("backup", "keys", "keys-2.kluis", "--since", "keys.kluis")
    wrong = restore(kluis, data="data-2.kluis", keys=["keys-2.kluis"])
    assert (wrong.code, "continues another key backup" in wrong.err) == (2, True)
    assert restore(kluis, data="data-2.kluis", keys=["keys.kluis", "keys-2.kluis"]).code == 0
    new = WatchedKluis(desk / "new")
    assert new.holds(kept)
    assert new.holds(later)


WRONG = [
    (("backup", "data", "data.kluis"), 2, "overwrites nothing"),
    (("backup", "keys", "x", "--since", "data.kluis"), 2, "not a backup of keys"),
    (("backup", "keys", "x", "--since", "absent"), 2, "absent"),
    (("backup", "data", "nowhere/x"), 2, "nowhere/x"),
    (("restore", "new", "--data", "cut.data", "--keys", "keys.kluis"), 2, "bring another copy"),
    (("restore", "new", "--data", "data.kluis", "--keys", "cut.keys"), 2, "bring another copy"),
    (("restore", "new", "--data", "keys.kluis", "--keys", "data.kluis"), 2, "not a backup of data"),
    (("restore", "new", "--data", "data.kluis"), 2, "--keys"),
    (("restore", ".", "--data", "data.kluis", "--keys", "keys.kluis"), 2, "a folder of its own"),
    (
        ("restore", "new", "--data", "data.kluis", "--keys", "keys.kluis", "--ledger", "absent"),
        2,
        "kluis ledger export",
    ),
    (
        (
            *("restore", "new", "--data", "data.kluis", "--keys", "keys.kluis"),
            *("--ledger", "http://127.0.0.1:9"),
        ),
        8,
        "try again",
    ),
    (
        ("restore", "new", "--data", "data.kluis", "--keys", "keys.kluis", "--rootkey", "absent"),
        1,
        "bring root-1.key",
    ),
]


@pytest.mark.parametrize(("arguments", "code", "word"), WRONG)
def test_what_is_wrong_is_one_line_and_makes_nothing(kluis, desk, backed_up, arguments, code, word):
    for name in ("data", "keys"):
        (desk / f"cut.{name}").write_bytes((desk / f"{name}.kluis").read_bytes()[:5_000])
    before = {path.name for path in desk.iterdir()}
    ran = kluis(*arguments)
    assert ran.code == code, ran.err
    assert word in ran.err
    assert {path.name for path in desk.iterdir()} == before


def test_a_wrong_passphrase_names_the_files_that_were_brought(
    kluis, desk, backed_up, tmp_path, monkeypatch
):
    (tmp_path / "wrong").write_text("another one\n")
    monkeypatch.setenv("KLUIS_PASSPHRASE_FILE", str(tmp_path / "wrong"))
    ran = run("restore", "new", "--data", "data.kluis", "--keys", "keys.kluis")
    assert ran.code == 2
    assert "wrong passphrase" in ran.err
    assert str(kluis.folder / "keys") in ran.err
    assert made(desk) == []


def test_the_printed_json_is_one_object(kluis, desk, backed_up):
    ran = restore(kluis, "--json")
    assert json.loads(ran.out)["records"] == 2
