"""Ageing out a real vault's ledger (LG8): what lives keeps its evidence, what was erased goes."""

import datetime as dt
import shutil
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ORIGIN, PASSPHRASE, SettableClock, _make_cheap
from governed import decide, found, role_key

from anchor.steps import Verdict
from anchor.verify import verify
from commands.checking import check_certificate
from ledger import pruning as ledger_pruning
from ledger.action import Prune, Resume, Stop
from ledger.checkpoint import Checkpoint
from ledger.destination import FolderDestination
from ledger.entry import ERASURES, EntryKind, encode_governance, parse_entry
from ledger.errors import Pruned
from ledger.governance import judge
from ledger.governing import current_state
from ledger.log import Log, append_pending
from ledger.publish import export
from ledger.source import FolderSource
from policy import Ground
from vault import Damaged, Erased, InvalidInput, NewRecord, NotFound, Vault
from vault import checkpointing as vault_checkpointing
from vault import pruning as vault_pruning
from vault.backup.building import Materials
from vault.backup.data import backup_data
from vault.backup.drill import drill
from vault.backup.keys import backup_keys
from vault.backup.restore import RestoreOrder, restore
from vault.errors import NotAllowed
from vault.pruning import Needs

# Behind today, since when the organisation's key is valid.
FIRST, BEFORE, LATER, LAST = (
    dt.datetime.now(dt.UTC).date() + dt.timedelta(days=days) for days in (1, 31, 32, 62)
)
CONSENT = Ground.CONSENT_WITHDRAWN


class Injected(Exception):
    pass


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """2,000 records: erased, rectified, certified, with field groups; and the members' keys."""
    folder = tmp_path_factory.mktemp("grown") / "vault"
    clock = SettableClock(FIRST)
    with pytest.MonkeyPatch.context() as patch:
        _make_cheap(patch)
        Vault.create(folder, PASSPHRASE, origin=ORIGIN).close()
        with Vault.open(folder, PASSPHRASE, clock=clock) as vault:
            keys = found(vault)
            vault.checkpoint()
            pointers = put(vault, 900, "nieuwsbrief") + put(vault, 100, "kindpakket", grouped=True)
            for pointer in pointers[:80]:
                vault.rectify(pointer, b"corrected")
            vault.anchor()
            for pointer in pointers[40:240]:
                vault.erase(pointer, CONSENT)
            for pointer in pointers[-20:]:
                vault.erase_group(pointer, "contact", CONSENT)
            vault.shred(declared_by="K. Smit")
            for pointer in pointers[240:270]:
                vault.erase(pointer, CONSENT)
            vault.anchor()
            clock.day = LATER
            later = put(vault, 1_000, "nieuwsbrief")
            for pointer in pointers[300:320]:
                vault.rectify(pointer, b"corrected later")
            for pointer in (*pointers[300:310], *pointers[500:520], *later[:20]):
                vault.erase(pointer, CONSENT)
            vault.anchor()
    return folder, keys, pointers + later


def put(vault, count, category, *, grouped=False):
    """Store records of as many subjects and return their pointers."""
    stored = []
    groups = {"contact": b"by telephone"} if grouped else None
    vault.put_many(
        (
            NewRecord(b"payload %d" % n, f"{category} {n} {count}", groups=groups)
            for n in range(count)
        ),
        category=category,
        on_batch=stored.extend,
    )
    return stored


class Grown:
    """An open copy of that vault."""

    def __init__(self, vault, clock, keys, pointers):
        self.vault, self.clock, self.keys, self.pointers = vault, clock, keys, pointers

    def enact(self, before=BEFORE):
        """Have a prune enacted, and return its plan."""
        plan = self.vault.plan_prune(before)
        view = self.vault.propose_prune(plan.minimum, self.keys.operator)
        assert view.is_open
        for key in (self.keys.officer, self.keys.archivist):
            view = self.vault.approve(view.proposal.id, key)
        assert view.is_enacted
        return plan

    def prune(self, before=BEFORE):
        plan = self.enact(before)
        return plan, self.vault.prune()

    @contextmanager
    def log(self):
        with self.vault._core.database.read() as connection:
            yield Log(connection)

    def sql(self, statement, *parameters):
        with self.vault._core.database.write() as connection:
            result = connection.exec_driver_sql(statement, parameters)
            return [tuple(row) for row in result] if result.returns_rows else []

    def living(self):
        rows = self.sql("SELECT pointer FROM vault_record WHERE erased_act IS NULL")
        living = {bytes(row[0]) for row in rows}
        return [one for one in self.pointers if raw(one) in living]

    def evidence(self, step=1):
        """Prove every version and every group of what lives, or a share; return how many."""
        trust, proven = self.vault.trust(), 0
        for pointer in self.living()[::step]:
            for version in self.vault.history(pointer):
                proofs = [self.vault.prove(pointer, version=version.number)]
                proofs += [
                    self.vault.prove(pointer, version=version.number, group=group)
                    for group in version.groups
                ]
                for one in proofs:
                    assert verify(one, trust).verdict is Verdict.VERIFIED
                    proven += 1
        return proven

    def contents(self):
        """Count the versions and groups that are readable."""
        return self.sql(
            "SELECT (SELECT count(*) FROM vault_version WHERE body IS NOT NULL)"
            " + (SELECT count(*) FROM vault_part WHERE body IS NOT NULL)"
        )[0][0]

    def certificates(self, step=1):
        """Prove every certificate of a record, or a share; return how many."""
        trust, proven = self.vault.trust(), 0
        rows = self.sql(
            "SELECT DISTINCT r.pointer FROM vault_certificate c JOIN vault_erasure e"
            " ON e.id = c.erasure_id JOIN vault_record r ON r.id = e.record_id"
            " WHERE e.field_group = 0 ORDER BY r.id"
        )
        known = {raw(one): one for one in self.pointers}
        for (pointer,) in rows[::step]:
            signed = self.vault.certificate(known[bytes(pointer)])
            proof = self.vault.prove_certificate(signed)
            assert check_certificate(signed, trust, proof).verdict is Verdict.VERIFIED
            proven += 1
        return proven

    def faults(self):
        return [str(fault) for fault in self.vault.audit().faults]


def raw(pointer):
    from ledger.pointer import parse_pointer

    return parse_pointer(pointer)


@pytest.fixture
def aged(grown, tmp_path):
    folder, keys, pointers = grown
    clock = SettableClock(LATER)
    shutil.copytree(folder, tmp_path / "vault")
    with Vault.open(tmp_path / "vault", PASSPHRASE, clock=clock) as vault:
        yield Grown(vault, clock, keys, pointers)


def commitments(log, end):
    """What the entries below a leaf say, by whether it is of something that lives."""
    needs = Needs(log.connection)
    said = {True: [], False: []}
    for leaf in range(end):
        data = log.entry(leaf)
        entry = parse_entry(data)
        if entry.kind is EntryKind.VERSION:
            said[needs(leaf, entry)].append(entry.body)
    return said


def bytes_of(folder):
    return b"".join(path.read_bytes() for path in Path(folder).rglob("*") if path.is_file())


def test_nothing_living_loses_its_evidence(aged):
    before, certified = aged.contents(), aged.certificates(9)
    plan = aged.vault.plan_prune(BEFORE)
    with aged.log() as log:
        said = commitments(log, plan.minimum // 256 * 256)
    stored = bytes_of(aged.vault.folder)
    assert all(one in stored for one in said[False])
    plan, report = aged.prune()
    assert (report.minimum, report.cleaned) == (plan.minimum, True)
    assert report.kept == plan.kept.total()
    assert aged.faults() == []
    assert aged.vault.audit().pruned == (plan.minimum, report.leaf)
    assert aged.evidence() == before > 1_500
    assert aged.certificates() == 200
    assert certified == 23
    stored = bytes_of(aged.vault.folder)
    assert sum(one in stored for one in said[False]) == 0
    assert all(one in stored for one in said[True])
    assert len(said[False]) > 200
    kept = dict(plan.kept)
    print(f"pruned to {plan.minimum}: {report.going}; kept {kept}; {before} proofs,"
          f" 200 certificates; {len(said[False])} commitments gone")  # fmt: skip


def test_what_is_said_of_an_erased_record_whose_entries_are_gone(aged):
    pointer, uncertified = aged.pointers[50], aged.pointers[250]
    with pytest.raises(Erased, match="entry") as told:
        aged.vault.get(pointer)
    plan, report = aged.prune()
    words = f"pruned to {plan.minimum} by entry {report.leaf}"
    with pytest.raises(Erased, match=words):
        aged.vault.get(pointer)
    with pytest.raises(Erased, match=words) as again:
        aged.vault.erase(pointer, CONSENT)
    assert (again.value.leaf, again.value.decision.code) == (None, "D2")
    assert again.value.erased_at == told.value.erased_at
    history = aged.vault.history(pointer)
    assert [one.pruned for one in history] == [True, True]
    with pytest.raises(NotFound, match=words):
        aged.vault.prove(pointer)
    with pytest.raises(NotFound, match=words):
        aged.vault.prove_erasure(pointer)
    group = aged.pointers[-1_001]
    with pytest.raises(Erased, match=words):
        aged.vault.get(group, "contact")
    # What is not certified yet keeps its erasure entry, which its certificate states.
    with pytest.raises(Erased, match="entry"):
        aged.vault.get(uncertified)
    assert aged.vault.prove_erasure(uncertified).entry.kind in ERASURES
    assert aged.vault.erasure_index(uncertified) is not None
    assert not aged.vault.history(aged.pointers[0])[0].pruned
    aged.vault.shred(declared_by="K. Smit")
    assert aged.vault.certificate(uncertified).certificate.erasure_entry.index < plan.minimum
    assert aged.faults() == []


def test_a_pruned_vault_goes_on_and_is_pruned_again(aged):
    aged.prune()
    aged.clock.day = LAST
    new = put(aged.vault, 300, "nieuwsbrief")
    aged.pointers += new
    for pointer in (*aged.pointers[320:340], *new[:10]):
        aged.vault.rectify(pointer, b"after the prune")
    for pointer in aged.pointers[330:340]:
        aged.vault.erase(pointer, CONSENT)
    aged.vault.shred(declared_by="K. Smit")
    aged.vault.anchor()
    assert aged.faults() == []
    proofs, certificates = aged.evidence(40), aged.certificates(9)
    with aged.log() as log:
        end = log.pruned_to()[0] // 256 * 256
        gone = [
            parse_entry(log.entry(leaf)).body
            for pointer in aged.pointers[330:340]
            for leaf in log.leaves_of(raw(pointer))
            if leaf < end
        ]
    assert len(gone) > 5
    plan, _ = aged.prune(LAST)
    assert aged.faults() == []
    assert (aged.evidence(40), aged.certificates(9)) == (proofs, certificates)
    stored = bytes_of(aged.vault.folder)
    assert not any(one in stored for one in gone), "kept once, erased since"
    print(f"pruned again to {plan.minimum}: {proofs} proofs, {certificates} certificates")


def test_a_date_and_what_may_not_be_pruned(aged):
    with pytest.raises(InvalidInput, match=f"the oldest is of {FIRST}"):
        aged.vault.plan_prune(FIRST)
    assert aged.vault.plan_prune(FIRST + dt.timedelta(days=1)) == aged.vault.plan_prune(BEFORE)
    with pytest.raises(NotAllowed, match="no prune was enacted"):
        aged.vault.prune()
    put(aged.vault, 3, "nieuwsbrief")
    aged.vault.checkpoint()
    with pytest.raises(NotAllowed, match="kluis anchor run"):
        aged.vault.plan_prune(LAST)
    decide(aged.vault, Stop(), aged.keys.auditor)
    with pytest.raises(NotAllowed, match="stopped"):
        aged.vault.plan_prune(BEFORE)
    decide(aged.vault, Resume(), aged.keys.operator, aged.keys.officer)
    plan = aged.enact()
    with pytest.raises(NotAllowed, match="by decision: 'kluis ledger prune'"):
        aged.vault.plan_prune(BEFORE)
    decide(aged.vault, Stop(), aged.keys.auditor)
    with pytest.raises(NotAllowed, match="stopped"):
        aged.vault.prune()
    assert aged.vault.audit().pruned is None
    decide(aged.vault, Resume(), aged.keys.operator, aged.keys.officer)
    assert aged.vault.prune().minimum == plan.minimum
    with pytest.raises(NotAllowed, match="pruned to"):
        aged.vault.plan_prune(BEFORE)
    assert aged.faults() == []


def test_an_ungoverned_ledger_is_not_pruned(vault, clock):
    put(vault, 3, "nieuwsbrief")
    vault.anchor()
    clock.day = LATER
    with pytest.raises(NotAllowed, match="kluis member found"):
        vault.plan_prune(BEFORE)


def test_control_without_the_keep_step_evidence_is_lost(aged, monkeypatch):
    monkeypatch.setattr(Needs, "__call__", lambda self, leaf, entry: entry.kind is
                        EntryKind.GOVERNANCE)  # fmt: skip
    aged.prune()
    assert any("the ledger says []" in fault for fault in aged.faults())
    with pytest.raises(NotFound, match="pruned to"):
        aged.vault.prove(aged.living()[0])


TAMPERED = {
    "the proof of a living record": (
        "DELETE FROM ledger_kept WHERE leaf = :leaf",
        "its entries cannot be read",
    ),
    "with its position": (
        "DELETE FROM ledger_position WHERE leaf = :leaf; DELETE FROM ledger_kept"
        " WHERE leaf = :leaf",
        "the ledger says",
    ),
    "its entry": (
        "UPDATE ledger_kept SET entry = CAST(substr(entry, 1, 55) || x'00' AS BLOB)"
        " WHERE leaf = :leaf",
        "kept entry",
    ),
    "its path": ("UPDATE ledger_kept SET path = zeroblob(length(path)) WHERE leaf = :leaf", "kept"),
    "the state": ("UPDATE ledger_prune SET state = (SELECT state FROM ledger_governance)", "prune"),
    "the founding entry": (
        "DELETE FROM ledger_position WHERE leaf = 0; DELETE FROM ledger_kept WHERE leaf = 0",
        "governance: what is kept of it",
    ),
    "a tile above": ("DELETE FROM ledger_tile WHERE level = 1", "no tile 0 at level 1"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_what_was_changed_after_a_prune_is_named(aged, name):
    aged.prune()
    with aged.log() as log:
        leaf = log.leaves_of(raw(aged.pointers[0]))[0]
    statements, where = TAMPERED[name]
    for statement in statements.split("; "):
        aged.sql(statement.replace(":leaf", str(leaf)))
    faults = aged.faults()
    assert any(where in fault for fault in faults), faults


def test_a_prune_by_members_of_ones_own_making_is_named(aged, monkeypatch):
    """Who writes the database states other members at the minimum, and lets these approve.

    The signer refuses that entry; one that was made to sign it is seen by the audit.
    """
    core = aged.vault._core
    minimum = aged.vault.plan_prune(BEFORE).minimum
    with aged.log() as log:
        true = current_state(log.connection)
    mine = {one.key: role_key() for one in true.members}
    members = [replace(one, key=mine[one.key].public) for one in true.members]
    forged = replace(true, members=tuple(sorted(members)))
    action, sequence = Prune(minimum, forged.digest()), forged.sequence + 1
    approvals = [key.approve(core.origin, sequence, action, 2**40) for key in mine.values()]
    entry = encode_governance(sequence, action, approvals)
    with core.database.write() as connection:
        append_pending(connection, [entry])
    with pytest.raises(Damaged, match="no member's: nothing is signed"):
        aged.vault.checkpoint()
    monkeypatch.setattr(vault_checkpointing, "require_decided", lambda _: None)
    signed = Checkpoint.parse(aged.vault.checkpoint().text)
    with core.database.write() as connection:
        log = Log(connection)
        leaf = signed.size - 1
        ledger_pruning._keep(log, minimum, signed, Needs(connection))
        ledger_pruning._remove(connection, minimum)
        after = judge(core.origin, forged, parse_entry(entry), leaf, None)
        connection.exec_driver_sql(
            "INSERT INTO ledger_prune (minimum, leaf, state, pruned_at) VALUES (?, ?, ?, 1)",
            (minimum, leaf, forged.encode()),
        )
        connection.exec_driver_sql("UPDATE ledger_governance SET state = ?", (after.encode(),))
    core.tiles.clear()
    faults = aged.faults()
    assert any("does not make the state" in fault for fault in faults), faults


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_while_it_is_carried_out_leaves_all_or_nothing(aged, monkeypatch, moment):
    aged.enact()
    aged.vault.checkpoint()
    tables = ("ledger_kept", "ledger_prune", "ledger_bundle", "ledger_tile", "ledger_position")
    counts = lambda: [aged.sql(f"SELECT count(*) FROM {one}")[0][0] for one in tables]  # noqa: E731
    before, fails = counts(), 0
    while True:
        done = [0]
        for module, name in ((ledger_pruning, "run"), (ledger_pruning, "run_many"),
                             (vault_pruning, "record_act")):  # fmt: skip
            monkeypatch.setattr(module, name, _failing(module, name, done, fails, moment))
        try:
            aged.vault.prune()
        except Injected:
            fails += 1
        else:
            break
        finally:
            monkeypatch.undo()
        assert counts() == before
    assert aged.faults() == []
    assert counts() != before
    assert fails >= 9
    print(f"{fails} statements, a fault {moment} each")


def _failing(module, name, done, last, moment):
    real = getattr(module, name)

    def statement(connection, text, *arguments):
        if isinstance(text, str) and text.startswith("SELECT"):
            return real(connection, text, *arguments)
        done[0] += 1
        if done[0] - 1 == last and moment == "before":
            raise Injected
        answer = real(connection, text, *arguments)
        if done[0] - 1 == last:
            raise Injected
        return answer

    return statement


def test_a_publication_loses_what_went(aged, tmp_path):
    published = tmp_path / "published"
    aged.vault.export_ledger(published)
    assert (published / "tile/entries/000").exists()
    plan, report = aged.prune()
    aged.vault.export_ledger(published)
    assert not (published / "tile/entries/000").exists()
    assert not (published / "tile/0/000").exists()
    assert (published / f"tile/entries/{plan.minimum // 256:03}").exists()
    fresh = tmp_path / "fresh"
    with aged.log() as log:
        done = export(log, FolderDestination(fresh), plan.minimum)
    assert done.size == report.leaf + 1
    assert FolderSource(fresh).read("checkpoint")
    print(Counter(path.parts[-2] for path in fresh.rglob("*") if path.is_file()))


def restored(aged, root, name, published):
    """Restore a backup beside the newest published ledger, with the signer."""
    materials = Materials(root / f"{name}.data", [root / f"{name}.keys"], FolderSource(published))
    folder = aged.vault.folder
    order = RestoreOrder(root / f"restored-{name}", materials, folder / "keys", folder / "signer")
    return restore(order, PASSPHRASE, aged.clock)


def back_up(aged, root, name):
    backup_data(aged.vault._core, root / f"{name}.data")
    backup_keys(aged.vault._core, root / f"{name}.keys", None)


def test_restores_beside_a_pruned_publication(aged, tmp_path):
    """A backup of before the prune, and one of a pruned vault."""
    back_up(aged, tmp_path, "before")
    aged.prune()
    back_up(aged, tmp_path, "after")
    erased = aged.living()[5]
    aged.vault.erase(erased, CONSENT)
    published = tmp_path / "published"
    aged.vault.export_ledger(published)
    for name in ("before", "after"):
        report = restored(aged, tmp_path, name, published)
        assert (report.replayed.erasures, report.replayed.lost) == (1, 0)
        with Vault.open(tmp_path / f"restored-{name}", PASSPHRASE, clock=aged.clock) as back:
            assert [str(fault) for fault in back.audit().faults] == []
            with pytest.raises(Erased):
                back.get(erased)
            again = Grown(back, aged.clock, aged.keys, aged.pointers)
            assert again.contents() == aged.contents()
            assert again.evidence(50) > 20
            if name == "before":
                # What was enacted and is not carried out here still can be.
                back.anchor()
                assert back.prune().minimum == aged.vault.audit().pruned[0]
                assert again.faults() == []


def test_a_backup_that_is_older_than_what_is_published_lacks_what_is_gone(tmp_path):
    clock = SettableClock(FIRST)
    Vault.create(tmp_path / "vault", PASSPHRASE, origin=ORIGIN).close()
    with Vault.open(tmp_path / "vault", PASSPHRASE, clock=clock) as vault:
        aged = Grown(vault, clock, found(vault), put(vault, 300, "nieuwsbrief"))
        vault.anchor()
        back_up(aged, tmp_path, "old")
        aged.pointers += put(vault, 600, "nieuwsbrief")
        vault.anchor()
        clock.day = LATER
        plan, _ = aged.prune()
        vault.export_ledger(tmp_path / "published")
        with pytest.raises(Pruned, match=f"entries 301 to {plan.minimum // 256 * 256 - 1} are"):
            restored(aged, tmp_path, "old", tmp_path / "published")
        assert not (tmp_path / "restored-old").exists()


def test_a_drill_of_a_pruned_vault(aged, tmp_path):
    aged.prune()
    back_up(aged, tmp_path, "after")
    materials = Materials(tmp_path / "after.data", [tmp_path / "after.keys"], None)
    report = drill(aged.vault._core, materials, aged.vault._core.caller(None, None))
    assert report.passed, report
