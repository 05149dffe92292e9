"""The benchmarks run and say something about every operation; how fast it was is not asserted."""

import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from rich.console import Console

from bench import floor, floor_shredding
from bench.__main__ import CASES, as_json, run, show
from bench.measure import Aim, Row, percentile
from bench.workshop import Sizes
from vault import keyfile

ROWS = [
    "put-many",
    "put-many-two",
    "put-p50",
    "put-p99",
    "put-at-once",
    "get",
    "erase-small",
    "erase-large",
    "erase-last",
    "erase-growth",
    "erase-person-large",
    "shred-large",
    "shred-large-whole",
    "certify-large",
    "erase-many-large",
    "certify-many-large",
    "key-store",
    "key-backup",
    "data-backup",
    "key-backup-1",
    "key-backup-2",
    "integrate",
    "path",
    "consistency",
    "prove",
    "verify",
    "checkpoint",
    "export",
    "fsck",
    "monitor",
    "ledger-room",
    "growth",
    "witness",
    "peer-prove",
    "peer-verify",
    "open",
    "import-memory",
]
TINY = Sizes(
    rounds=1,
    batches=1,
    puts=2,
    putters=4,
    puts_each=2,
    gets=20,
    small=60,
    large=120,
    erasures=2,
    last_erasures=1,
    entries=300,
    integrations=1,
    proofs=5,
    checkpoints=1,
    opens=1,
    imported=50,
    epoch=10,
    epochs=1,
    backups=(1, 2),
    providers=False,
)


@pytest.fixture(scope="module")
def rows():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keyfile, "_MEMORY_KIB", 64)
        patch.setattr(keyfile, "_ITERATIONS", 1)
        return run(TINY)


def test_every_operation_has_a_row(rows):
    assert [row.name for row in rows] == ROWS
    for row in rows:
        assert row.datakluis > 0
        assert row.floor > 0


def test_the_table_shows_every_row(rows):
    console = Console(width=200)
    with console.capture() as captured:
        show(rows, console)
    for row in rows:
        assert row.operation in captured.get()
        assert row.floor_is in captured.get()


def test_json_holds_what_the_table_shows(rows):
    documents = json.loads(as_json(rows))
    assert [document["name"] for document in documents] == ROWS
    assert documents[0]["aim"] == "ratio ≥ 0.67"
    assert documents[0]["ratio"] == documents[0]["datakluis"] / documents[0]["floor"]


def test_one_benchmark_runs_alone(monkeypatch):
    monkeypatch.setattr(keyfile, "_MEMORY_KIB", 64)
    monkeypatch.setattr(keyfile, "_ITERATIONS", 1)
    told = []
    assert [row.name for row in run(TINY, ["path"], told.append)] == ["path", "consistency"]
    assert told == ["path"]
    assert "path" in CASES


def test_the_largest_vault_is_compared_with_the_larger_one(monkeypatch):
    monkeypatch.setattr(keyfile, "_MEMORY_KIB", 64)
    monkeypatch.setattr(keyfile, "_ITERATIONS", 1)
    rows = run(replace(TINY, huge=180), ["erase-huge", "erase-growth", "epoch-huge", "many-huge"])
    assert [row.name for row in rows] == [
        "erase-huge",
        "erase-growth",
        *("erase-person-huge", "shred-huge", "shred-huge-whole", "certify-huge"),
        *("erase-person-huge-growth", "shred-huge-growth"),
        *("erase-many-huge", "certify-many-huge"),
    ]
    assert "180 to 120" in rows[1].operation


@pytest.mark.parametrize(
    ("aim", "datakluis", "met"),
    [
        (Aim(ratio_from=0.67), 67.0, True),
        (Aim(ratio_from=0.67), 66.0, False),
        (Aim(ratio_to=1.5), 150.0, True),
        (Aim(ratio_to=1.5), 151.0, False),
        (Aim(value_from=6_000), 5_999.0, False),
        (Aim(value_to=2.5), 2.5, True),
        (None, 1.0, None),
    ],
)
def test_an_aim_is_met_or_not(aim, datakluis, met):
    assert Row("name", "operation", "/s", datakluis, 100.0, aim, "floor").met is met


def test_a_percentile_is_one_of_the_samples():
    assert percentile([3.0, 1.0, 2.0], 99) == 3.0
    assert percentile([float(n) for n in range(1, 101)], 99) == 99.0


def test_the_floor_does_its_work(tmp_path):
    """A floor that lost or leaked something would be a floor of nothing."""
    store = floor.create(tmp_path / "floor.db", 90)
    records = [(b"payload %d" % n, b"subject %d" % (n // 3)) for n in range(600)]
    pointers = floor.put(store, records)
    assert [floor.get(store, pointer) for pointer in pointers] == [one for one, _ in records]
    for pointer in pointers[:3]:
        floor.erase(store, pointer)
    with pytest.raises(TypeError):
        floor.get(store, pointers[0])
    assert [floor.get(store, pointer) for pointer in pointers[3:]] == [
        one for one, _ in records[3:]
    ]
    subjects = store.connection.execute("SELECT count(*) FROM subject").fetchone()
    assert subjects == (199,)
    again = floor.put(store, [(b"again", b"subject 1")])
    assert floor.get(store, again[0]) == b"again"
    assert store.connection.execute("SELECT count(*) FROM subject").fetchone() == (199,)
    store.connection.close()


def test_the_floor_of_an_epoch_does_its_work(tmp_path):
    store = floor.create(tmp_path / "floor.db", 90)
    others = floor.put(store, [(b"payload %d" % n, b"subject %d" % n) for n in range(300)])
    pointers = floor.put(store, [(b"payload %d" % n, b"person") for n in range(300)])
    before = store.epoch_key
    erased = floor_shredding.erase_subject(store, b"person")
    floor_shredding.close_epoch(store, tmp_path / "backup.db")
    assert [pointer for _, pointer in erased] == pointers
    for pointer in pointers:
        with pytest.raises(TypeError):
            floor.get(store, pointer)
    assert [floor.get(store, pointer) for pointer in others] == [
        b"payload %d" % n for n in range(300)
    ]
    assert store.epoch_key != before
    assert not (tmp_path / "backup.db").exists()
    key = ec.generate_private_key(ec.SECP256R1())
    floor_shredding.certify(store, erased, {"serial": "", "pointer": ""}, key)
    (document,) = store.connection.execute(
        "SELECT document FROM certificate ORDER BY id DESC LIMIT 1"
    ).fetchone()
    assert json.loads(document)["certificate"]["pointer"] == pointers[-1].hex()
    assert store.connection.execute("SELECT count(*) FROM pending").fetchone() == (1_200,)
    store.connection.close()
