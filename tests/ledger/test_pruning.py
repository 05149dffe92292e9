"""Pruning: what C2SP tlog-tiles promises above the minimum holds, and nothing else goes wrong."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from ledger_fixtures import (
    Injected,
    Ledger,
    NaiveTree,
    Records,
    checkpoint_of,
    erasure_entry,
    pointer,
    version_entry,
)
from nacl.signing import SigningKey
from test_witness_client import LOG, NAME, PATIENT, ask, policy_for
from witness_fixtures import new_witness, running_witness

from ledger import pruning
from ledger.action import RULED, Found, Member, Prune, Resume, Role, Stop
from ledger.approval import approve
from ledger.checkpoint import Checkpoint
from ledger.destination import FolderDestination
from ledger.entry import EntryKind, encode_governance, parse_entry
from ledger.errors import (
    BadProof,
    BadPublication,
    NotValid,
    Pruned,
    SourceMissing,
    UnknownLeaf,
)
from ledger.governance import DEFAULT_RULES
from ledger.governing import append_governance, current_state
from ledger.integrator import append_leaves
from ledger.log import Log
from ledger.merkle import leaf_hash, verify_consistency, verify_inclusion
from ledger.net.witnessclient import Outcome, request_cosignatures
from ledger.note import Note
from ledger.pruning import EnactedPrune
from ledger.publish import export
from ledger.replay import read_entries, replay_onto
from ledger.source import FolderSource
from ledger.tilecache import TileCache

NOW = 1_790_000_000
FAR = 2**40
KEYS = [SigningKey(hashlib.sha256(b"member %d" % n).digest()) for n in range(3)]
ROLES = (Role.OPERATOR, Role.OFFICER, Role.ARCHIVIST)


def enact(ledger, action, keys=KEYS):
    """Append a governance entry with the approvals of these members."""
    with ledger.write() as connection:
        origin = Log(connection).head().origin
        sequence = current_state(connection).sequence + 1
        approvals = [approve(key, origin, sequence, action, FAR) for key in keys]
        append_governance(connection, origin, encode_governance(sequence, action, approvals))


def found(ledger):
    members = sorted(
        Member(bytes(key.verify_key), hashlib.sha256(bytes([n])).digest()[:16], role)
        for n, (key, role) in enumerate(zip(KEYS, ROLES, strict=True))
    )
    enact(ledger, Found(tuple(members), tuple(DEFAULT_RULES[kind] for kind in RULED)))


def decide(ledger, minimum):
    """Enact a prune and sign a checkpoint that has it."""
    with ledger.read() as log:
        digest = current_state(log.connection).digest_at(minimum)
    enact(ledger, Prune(minimum, digest))
    return checkpoint_of(ledger.checkpoint())


def everything(leaf, entry):
    return True


def nothing(leaf, entry):
    return False


def some(leaf, entry):
    """The entries of every other record, and what must stay."""
    return bool(entry.pointer[0] % 2) or entry.kind in (EntryKind.CERTIFICATE, EntryKind.SHRED)


def carry_out(ledger, needed=some):
    """Carry out what was enacted; proofs lead to the newest checkpoint."""
    with ledger.read() as log:
        prune = pruning.enacted(log)
        checkpoint = checkpoint_of(log.latest_checkpoint())
    with ledger.write() as connection:
        return pruning.carry_out(Log(connection), prune, checkpoint, checkpoint, needed, NOW)


def fewer(leaf, entry):
    """Some of those records only, of which the rest died since."""
    return some(leaf, entry) and (entry.pointer[0] % 4 == 1 or entry.kind is not EntryKind.VERSION)


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path) as made:
        yield made


def grown(ledger, entries, minimum, needed=some):
    """A founded ledger of so many entries, with checkpoints on the way, pruned."""
    records = Records(seed=1, every_kind=True)
    found(ledger)
    for count in (1, entries // 3, entries // 2 - entries // 3):
        ledger.checkpoint(records.take(count))
    ledger.checkpoint(records.take(entries - 2 - entries // 2))
    before = ledger.entries()
    decide(ledger, minimum)
    kept = carry_out(ledger, needed)
    return before, kept


@pytest.mark.parametrize("minimum", [1, 255, 256, 257, 512, 600])
def test_everything_from_the_minimum_on_can_be_had(ledger, minimum):
    """C2SP tlog-tiles, "Pruning": entries, roots, inclusion and consistency from the minimum on."""
    before, _ = grown(ledger, 600, minimum)
    proofs = pairs = 0
    with ledger.read() as log:
        size = log.head().size
        entries = before + [log.entry(leaf) for leaf in range(len(before), size)]
        tree = NaiveTree(entries)
        cached = Log(log.connection, TileCache())
        for leaf in range(minimum, size):
            assert log.entry(leaf) == entries[leaf]
            for to in range(leaf + 1, size + 1, 1 if minimum > 550 else 29):
                path = cached.inclusion_proof(leaf, to)
                verify_inclusion(leaf_hash(entries[leaf]), leaf, to, path, tree.root(to))
                proofs += 1
        for old in range(minimum, size + 1, 3):
            assert log.root(old) == tree.root(old)
            for new in range(old, size + 1, 11):
                path = cached.consistency_proof(old, new)
                verify_consistency(old, tree.root(old), new, tree.root(new), path)
                pairs += 1
        floor = minimum // 256 * 256
        assert log.first_leaf() == floor
        for leaf in range(floor):
            if some(leaf, parse_entry(entries[leaf])):
                assert log.entry(leaf) == entries[leaf]
            else:
                with pytest.raises(Pruned, match=f"pruned to {minimum} by entry {size - 1}"):
                    log.entry(leaf)
        for number in range(floor // 256):
            with pytest.raises(Pruned):
                log.bundle(number)
            with pytest.raises(Pruned):
                log.tile(0, number)
        with pytest.raises(UnknownLeaf):
            log.entry(size)
        if floor:
            with pytest.raises(Pruned):
                log.root(floor - 1)
            with pytest.raises(Pruned):
                log.inclusion_proof(0, size)
    assert ledger.faults() == []
    print(f"{proofs} inclusion and {pairs} consistency proofs from {minimum} on")


def test_a_prune_beyond_a_tile_of_the_second_level(ledger):
    found(ledger)
    entries = [version_entry(pointer(number)) for number in range(66_500)]
    ledger.checkpoint(entries[:60_000])
    ledger.checkpoint(entries[60_000:])
    minimum = 65_536 + 300
    whole = ledger.entries()
    decide(ledger, minimum)
    kept = carry_out(ledger, lambda leaf, entry: leaf % 1_000 == 1)
    assert kept == 66
    with ledger.read() as log:
        size = log.head().size
        assert log.connection.exec_driver_sql(
            "SELECT level, min(number), count(*) FROM ledger_tile GROUP BY level"
        ).all() == [(0, 257, 3), (1, 1, 1), (2, 0, 1)]
        for leaf in (minimum, minimum + 1, size - 1):
            path = log.inclusion_proof(leaf, size)
            verify_inclusion(leaf_hash(log.entry(leaf)), leaf, size, path, log.head().root)
        for old in (minimum, 66_048, size):
            path = log.consistency_proof(old, size)
            verify_consistency(old, log.root(old), size, log.head().root, path)
        with pytest.raises(Pruned):
            log.tile(1, 0)
        assert log.entry(50_001) == whole[50_001]
    assert ledger.faults() == []


def test_each_kept_entry_proves_itself_to_a_signed_checkpoint(ledger):
    before, kept = grown(ledger, 700, 600)
    with ledger.read() as log:
        notes = dict(log.checkpoints())
        proven = [one for leaf in range(600) if (one := log.kept(leaf)) is not None]
        for one in proven:
            root = Checkpoint.parse(Note.parse(notes[one.size].encode()).text).root
            verify_inclusion(leaf_hash(one.entry), one.leaf, one.size, one.path, root)
            assert one.entry == before[one.leaf]
    assert len(proven) == kept > 250
    print(f"{kept} kept entries verified")


def test_the_log_goes_on_and_is_pruned_again(ledger):
    grown(ledger, 700, 300)
    records = Records(seed=2)
    for _ in range(3):
        ledger.checkpoint(records.take(150))
        assert ledger.faults() == []
    first = {row[0] for row in ledger.sql("SELECT leaf FROM ledger_kept")}
    decide(ledger, 900)
    kept = carry_out(ledger, fewer)
    second = {row[0]: row[1] for row in ledger.sql("SELECT leaf, size FROM ledger_kept")}
    assert ledger.faults() == []
    assert kept == len(second)
    # What was kept before has a newer proof, and what nothing needs any more is gone.
    assert {leaf for leaf in second if leaf < 300} < first
    assert min(second.values()) > 900
    assert ledger.sql("SELECT minimum FROM ledger_prune") == [(900,)]
    with ledger.read() as log:
        assert pruning.enacted(log) is None


def test_what_may_not_be_carried_out(ledger):
    found(ledger)
    ledger.checkpoint(Records(seed=3).take(600))
    with ledger.read() as log:
        assert pruning.enacted(log) is None
        digest = current_state(log.connection).digest_at(300)
    with pytest.raises(NotValid, match="states another governance"):
        enact(ledger, Prune(300, bytes(32)))
    with pytest.raises(NotValid, match="lacks"):
        enact(ledger, Prune(300, digest), KEYS[:2])
    enact(ledger, Prune(300, digest))
    with ledger.read() as log:
        old = checkpoint_of(log.latest_checkpoint())
        assert pruning.enacted(log) is None, "it is no leaf yet"
    ledger.integrate()
    with ledger.read() as log:
        prune = pruning.enacted(log)

    def attempt(prune=prune, proven=old, signed=old):
        with ledger.write() as connection:
            pruning.carry_out(Log(connection), prune, proven, signed, nothing, NOW)

    with pytest.raises(NotValid, match="in no signed checkpoint"):
        attempt()
    new = checkpoint_of(ledger.sign())
    other = EnactedPrune(prune.leaf, replace(prune.action, minimum=301))
    with pytest.raises(NotValid, match="another than the one"):
        attempt(other, new, new)
    with pytest.raises(ValueError, match="the fewest"):
        attempt(proven=replace(old, size=299), signed=new)
    before, wrong = ledger.dump(), replace(new, root=bytes(32))
    with ledger.write() as connection, pytest.raises(BadProof):
        pruning.carry_out(Log(connection), prune, wrong, new, everything, NOW)
    assert ledger.dump() == before
    enact(ledger, Stop(), KEYS[:1])
    stopped = checkpoint_of(ledger.checkpoint())
    with pytest.raises(NotValid, match="stopped"):
        attempt(signed=stopped)
    enact(ledger, Resume())
    ledger.checkpoint()
    assert ledger.sql("SELECT count(*) FROM ledger_prune") == [(0,)]
    assert carry_out(ledger, nothing) == 0
    assert ledger.faults() == []
    with pytest.raises(NotValid, match="not above"):
        enact(ledger, Prune(300, digest))


def _unapproved(ledger):
    """A prune to 512 that only the operator of the database decided on."""
    ledger.sql("UPDATE ledger_prune SET minimum = 512")
    for statement in (
        "DELETE FROM ledger_bundle WHERE number < 2",
        "DELETE FROM ledger_tile WHERE level = 0 AND number < 2",
        "DELETE FROM ledger_position WHERE leaf < 512"
        " AND leaf NOT IN (SELECT leaf FROM ledger_kept)",
    ):
        ledger.sql(statement)


def _other_members(ledger):
    ledger.sql(
        "UPDATE ledger_prune SET state = (SELECT state FROM ledger_governance)",
    )


TAMPERED = {
    "kept entry changed": (
        "UPDATE ledger_kept SET entry = CAST(substr(entry, 1, 55) || x'00' AS BLOB)"
        " WHERE leaf = {kept}",
        "kept entry {kept}",
    ),
    "kept path changed": (
        "UPDATE ledger_kept SET path = CAST(substr(path, 33) || zeroblob(32) AS BLOB)"
        " WHERE leaf = {kept}",
        "kept entry {kept}",
    ),
    "kept path cut": (
        "UPDATE ledger_kept SET path = substr(path, 33) WHERE leaf = {kept}",
        "kept entry {kept}",
    ),
    "kept leaf moved": (
        "UPDATE ledger_kept SET leaf = 9999 WHERE leaf = {kept}",
        "kept entry 9999",
    ),
    "kept to no checkpoint": (
        "UPDATE ledger_kept SET size = size - 1 WHERE leaf = {kept}",
        "kept entry {kept}",
    ),
    "kept entry removed": ("DELETE FROM ledger_kept WHERE leaf = {kept}", "positions"),
    "position of a kept entry removed": (
        "DELETE FROM ledger_position WHERE leaf = {kept}",
        "kept entry {kept}",
    ),
    "tile gone above the minimum": (
        "DELETE FROM ledger_tile WHERE level = 0 AND number = 1",
        "tile 1 at level 0",
    ),
    "bundle gone above the minimum": (
        "DELETE FROM ledger_bundle WHERE number = 1",
        "entry bundle 1",
    ),
    "hash below the first leaf changed": (
        "UPDATE ledger_tile SET hashes = CAST(zeroblob(32) || substr(hashes, 33) AS BLOB)"
        " WHERE level = 1",
        "ledger head",
    ),
    "state changed": (
        "UPDATE ledger_prune SET state = CAST(substr(state, 1, length(state) - 1) || x'00'"
        " AS BLOB)",
        "prune to 300",
    ),
    "another state": (_other_members, "prune to 300"),
    "another leaf": ("UPDATE ledger_prune SET leaf = leaf - 1", "prune to 300"),
    "pruned further than decided": (_unapproved, "prune to 512"),
    "the row of the prune gone": ("DELETE FROM ledger_prune", "pruning"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_what_was_changed_is_named(ledger, name):
    grown(ledger, 700, 300)
    assert ledger.faults() == []
    change, where = TAMPERED[name]
    ((kept,),) = ledger.sql(
        "SELECT max(leaf) FROM ledger_kept WHERE leaf < 256 AND length(entry) = 56"
    )
    if callable(change):
        change(ledger)
    else:
        ledger.sql(change.format(kept=kept))
    assert where.format(kept=kept) in ledger.wheres()


def test_a_prune_that_nobody_approved_is_named(ledger, monkeypatch):
    """A log whose operator writes the entry himself is caught by whoever replays the rules."""
    found(ledger)
    ledger.checkpoint(Records(seed=4).take(600))
    with ledger.read() as log:
        state = current_state(log.connection)
    action = Prune(300, state.digest_at(300))
    entry = encode_governance(state.sequence + 1, action, ())
    ledger.checkpoint([entry])
    checkpoint = checkpoint_of(ledger.sign())
    with ledger.read() as log:
        prune = pruning.enacted(log)
    with ledger.write() as connection, pytest.raises(NotValid, match="lacks"):
        pruning.carry_out(Log(connection), prune, checkpoint, checkpoint, nothing, NOW)
    real = pruning.judge
    monkeypatch.setattr(
        pruning,
        "judge",
        lambda origin, state, entry, *rest: (
            real(origin, state, entry, *rest) if entry.version == 1 else state
        ),
    )
    with ledger.write() as connection:
        pruning.carry_out(Log(connection), prune, checkpoint, checkpoint, nothing, NOW)
    monkeypatch.undo()
    named = [fault for fault in ledger.faults() if fault.where == "prune to 300"]
    assert "lacks" in named[0].what


def test_an_entry_whose_record_is_gone_is_no_fault(ledger):
    """Erasures and certificates above the minimum stand where their versions were pruned."""
    found(ledger)
    ledger.checkpoint([version_entry(pointer(number)) for number in range(400)])
    ledger.checkpoint([version_entry(pointer(number), 2) for number in range(400)])
    ledger.checkpoint([erasure_entry(pointer(number), 2) for number in range(400)])
    decide(ledger, 512)
    carry_out(ledger, nothing)
    assert ledger.faults() == []


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_leaves_all_or_nothing(tmp_path, monkeypatch, moment):
    """A fault at each statement that writes, and at the commit, before and after it."""
    writes = 0
    with Ledger(tmp_path) as ledger:
        found(ledger)
        ledger.checkpoint(Records(seed=5, every_kind=True).take(700))
        decide(ledger, 600)
        before = ledger.dump()
        while True:
            seen = [0]
            for name in ("run", "run_many"):
                monkeypatch.setattr(pruning, name, _failing(seen, writes, moment, name))
            try:
                carry_out(ledger)
            except Injected:
                writes += 1
            else:
                break
            finally:
                monkeypatch.undo()
            assert ledger.dump() == before
            assert ledger.faults() == []
        assert ledger.faults() == []
        assert ledger.dump() != before
    assert writes >= 8
    print(f"{writes} statements, a fault {moment} each")


def _failing(seen, last, moment, name):
    real = getattr(pruning, name)

    def statement(connection, text, *arguments):
        if text.startswith("SELECT"):
            return real(connection, text, *arguments)
        seen[0] += 1
        if seen[0] - 1 == last and moment == "before":
            raise Injected
        answer = real(connection, text, *arguments)
        if seen[0] - 1 == last:
            raise Injected
        return answer

    return statement


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_at_the_commit_leaves_all_or_nothing(ledger, moment):
    found(ledger)
    ledger.checkpoint(Records(seed=6, every_kind=True).take(700))
    decide(ledger, 600)
    before = ledger.dump()

    def fail(now):
        if now == moment:
            raise Injected

    ledger.on_commit = fail
    with pytest.raises(Injected):
        carry_out(ledger)
    ledger.on_commit = lambda now: None
    assert (ledger.dump() == before) is (moment == "before")
    assert ledger.faults() == []
    with ledger.read() as log:
        assert (pruning.enacted(log) is None) is (moment == "after")


@pytest.mark.parametrize("minimum", [256, 300, 600])
def test_a_kept_entry_is_proven_to_every_later_size(ledger, minimum):
    """Its path is made longer from the tiles that are left, also after one more prune."""
    found(ledger)
    records = Records(seed=7)
    ledger.checkpoint(records.take(minimum + 40))
    tree_entries = ledger.entries()
    decide(ledger, minimum)
    carry_out(ledger, some)
    ledger.checkpoint(records.take(700))
    with ledger.read() as log:
        size = log.head().size
        entries = tree_entries + [log.entry(leaf) for leaf in range(len(tree_entries), size)]
        proofs = _prove_kept(log, entries, minimum)
    decide(ledger, size - 100)
    carry_out(ledger, some)
    assert ledger.faults() == []
    ledger.checkpoint(records.take(300))
    with ledger.read() as log:
        rest = [log.entry(leaf) for leaf in range(size, log.head().size)]
        proofs += _prove_kept(log, entries + rest, size - 100)
    print(f"{proofs} proofs of kept entries")


def _prove_kept(log, entries, minimum):
    tree, proofs = NaiveTree(entries), 0
    kept = [one for leaf in range(minimum) if (one := log.kept(leaf)) is not None]
    assert kept
    for one in kept[::7]:
        for size in range(one.size, len(entries) + 1, 43):
            path = log.inclusion_proof(one.leaf, size)
            verify_inclusion(leaf_hash(one.entry), one.leaf, size, path, tree.root(size))
            proofs += 1
        if one.leaf < min(log.first_leaf(), minimum - 1):
            with pytest.raises(Pruned):
                log.inclusion_proof(one.leaf, minimum - 1)
    return proofs


def published(ledger, folder):
    """Publish as a pruned log is published."""
    with ledger.read() as log:
        export(log, FolderDestination(folder), log.minimum())
    return FolderSource(folder)


def copied(ledger, folder, size):
    """Another database, with so many leaves of this one from before it was pruned."""
    other = Ledger(folder)
    with other.write() as connection:
        append_leaves(connection, ledger[:size])
    return other


@pytest.mark.parametrize("minimum", [300, 512, 600])
def test_a_pruned_publication_brings_up_who_has_what_is_gone(ledger, tmp_path, minimum):
    before, _ = grown(ledger, 700, minimum)
    ledger.checkpoint(Records(seed=8).take(100))
    source = published(ledger, tmp_path / "log")
    assert not (tmp_path / "log/tile/0/000").exists()
    log = read_entries(source, ledger.signer.keys)
    first = minimum // 256 * 256
    assert (log.first_leaf, list(log.faults())) == (first, [])
    tree = NaiveTree(before + list(log.entries(len(before))))
    for size in range(first, log.size + 1):
        assert log.root(size) == tree.root(size)
    with pytest.raises(Pruned, match=f"pruned to {minimum}"):
        log.root(first - 1)
    with pytest.raises(Pruned, match=f"entries 7 to {first - 1} are not published any more"):
        next(log.entries(7))
    for have in (first - 1, first, first + 1, len(before)):
        folder = tmp_path / str(have)
        folder.mkdir()
        with copied(before, folder, have) as other:
            if have < first:
                with other.write() as connection, pytest.raises(Pruned, match=f"entries {have} to"):
                    replay_onto(connection, log, NOW)
                continue
            with other.write() as connection:
                assert replay_onto(connection, log, NOW) == log.size - have
            with other.read() as seen:
                assert seen.head().root == log.checkpoint.root


def test_a_pruned_publication_is_believed_no_more_than_another(ledger, tmp_path):
    grown(ledger, 700, 600)
    source = published(ledger, tmp_path / "log")
    size = read_entries(source, ledger.signer.keys).size
    width = size >> 8
    tile = tmp_path / f"log/tile/1/000.p/{width}"
    whole = tile.read_bytes()
    tile.write_bytes(bytes(32) + whole[32:])
    with pytest.raises(BadPublication, match="another root"):
        read_entries(source, ledger.signer.keys)
    tile.write_bytes(whole[:31])
    with pytest.raises(BadPublication, match="31 bytes"):
        read_entries(source, ledger.signer.keys)
    tile.write_bytes(whole)
    bundle = tmp_path / f"log/tile/entries/002.p/{size - 512}"
    kept = bundle.read_bytes()
    bundle.unlink()
    with pytest.raises(SourceMissing):
        read_entries(source, ledger.signer.keys)
    bundle.write_bytes(kept)
    assert read_entries(source, ledger.signer.keys).first_leaf == 512


def test_what_is_missing_and_was_not_decided_is_no_prune(ledger, tmp_path):
    """Whoever serves a log cannot hide its beginning and call it pruned."""
    found(ledger)
    ledger.checkpoint(Records(seed=9).take(700))
    source = published(ledger, tmp_path / "log")
    for number in (0, 1):
        (tmp_path / f"log/tile/entries/{number:03}").unlink()
        (tmp_path / f"log/tile/0/{number:03}").unlink()
    with pytest.raises(SourceMissing, match="tile/entries/001"):
        read_entries(source, ledger.signer.keys)


def test_a_witness_behind_the_minimum_is_told_and_one_beyond_it_is_not_lost(tmp_path):
    """What is remembered of a witness can be older than what it has: it is asked once more."""
    witness = new_witness(tmp_path)

    def prove(old, new):
        if old < 15:
            raise Pruned(15, 16, "no tile 0 at level 0")
        return LOG.proof(old, new)

    with running_witness(witness) as url:
        policy = policy_for((NAME, url))
        key = policy.witness_keys()[0]
        for size, remembered in ((8, {}), (20, {key: 8}), (20, {})):
            (asked,) = request_cosignatures(
                LOG.note(size), policy.witnesses, remembered, prove, PATIENT
            )
            if size == 8:
                assert asked.outcome is Outcome.COSIGNED
            else:
                assert (asked.outcome, "it is at 8 leaves" in asked.detail) == (
                    Outcome.REFUSED,
                    True,
                )
        ask(policy, 18)
        (asked,) = request_cosignatures(LOG.note(33), policy.witnesses, {key: 8}, prove, PATIENT)
        assert asked.outcome is Outcome.COSIGNED
