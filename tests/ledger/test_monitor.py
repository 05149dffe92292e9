"""The monitor: an honest log is followed, and the first fault of another is kept as evidence."""

import re
import tracemalloc
from collections import Counter

import pytest
from ledger_fixtures import (
    ORIGIN,
    OTHER_KEY,
    NaiveTree,
    Records,
    certificate_entry,
    checkpoint_of,
    erasure_entry,
    pointer,
    shred_entry,
    sign_with_both,
    version_entry,
)
from monitored_logs import NOW, Members, Trusted, Watched, prune, publish_onto, replaced
from published_logs import MemorySource, memory_log, signed_checkpoint

from ledger import monitor, monitorentries
from ledger.action import ActionKind, EnactList, Resume, Rule, SetRule, Stop
from ledger.checkpoint import Checkpoint
from ledger.entry import (
    Membership,
    encode_erasure,
    encode_listed_erasure,
    encode_version,
)
from ledger.errors import (
    BadProof,
    BadPublication,
    Malformed,
    Misbehaved,
    MonitorBusy,
    MonitorStateLost,
    NotJudged,
    SourceMissing,
    SourceUnreachable,
)
from ledger.merkle import leaf_hash, verify_consistency, verify_inclusion
from ledger.monitor import RoundReport, View, Watcher
from ledger.monitorstate import MonitorState
from ledger.note import Note, decode_base64
from ledger.tlogproof import LogProof

ENTRIES = Records(seed=41, every_kind=True).take(700)


@pytest.fixture
def watched(tmp_path):
    return Watched(tmp_path / "watch", memory_log(ENTRIES[:300]))


def changed(entries, place, entry=None):
    return [*entries[:place], entry or version_entry(pointer(1 << 81)), *entries[place + 1 :]]


def misbehaves(watched, match):
    """Two rounds find the same; the state stays as it was, and there is one folder of evidence."""
    before = watched.kept
    for _ in range(2):
        with pytest.raises(Misbehaved, match=match) as caught:
            watched.round()
    assert watched.kept == before
    found = watched.evidence()
    assert caught.value.what.startswith(found.pop("fault").decode().rstrip("\n"))
    assert found == caught.value.evidence
    assert found["checkpoint-found"] == watched.source.files["checkpoint"]
    return found


def require_contradiction(older, larger, contradiction):
    """What an auditor does offline with two checkpoints and the file between them."""
    size, root, *hashes = contradiction.decode().splitlines()
    assert int(size) == older.size
    root, proof = decode_base64(root), list(map(decode_base64, hashes))
    verify_consistency(older.size, root, larger.size, larger.root, proof)
    assert root != older.root


# Honest logs


def test_lg1_a_log_that_grows_is_followed_over_hundreds_of_sizes(tmp_path):
    """Every size from 1 to 300, then by leaps; each round reads little more than what is new."""
    watched = Watched(tmp_path / "watch", MemorySource({}))
    before, reads = 0, Counter()
    for size in [*range(1, 301), 511, 512, 513, 700]:
        publish_onto(watched.source, ENTRIES[:size])
        watched.source.reads.clear()
        report = watched.round()
        assert report == RoundReport(size, size - before, False, 0, ())
        assert watched.kept[1] == size
        reads[len(watched.source.reads)] += 1
        before = size
    print(f"304 sizes followed; files read in a round: {dict(sorted(reads.items()))}")
    assert max(reads) <= 9
    assert not list(watched.folder.glob("evidence-*"))


@pytest.mark.parametrize("old", [1, 2, 255, 256, 257, 300, 512, 600])
def test_every_step_from_some_sizes(tmp_path, old):
    for new in sorted({old, old + 1, *(size for size in (512, 513, 699, 700) if size > old)}):
        watched = Watched(tmp_path / str(new), memory_log(ENTRIES[:old]))
        watched.round()
        publish_onto(watched.source, ENTRIES[:new])
        assert watched.round().judged == new - old


def test_an_empty_log_is_followed_from_its_first_day(tmp_path):
    watched = Watched(tmp_path / "watch", memory_log([]))
    assert watched.round() == RoundReport(0, 0, False, 0, ())
    publish_onto(watched.source, ENTRIES[:3])
    assert watched.round().judged == 3


def test_the_same_tree_with_other_signatures_is_no_fork(watched):
    watched.round()
    note = Note.parse(watched.source.files["checkpoint"])
    extra = sign_with_both(Checkpoint.parse(note.text), OTHER_KEY, "witness.example/w").signatures
    more = Note(note.text, (*note.signatures, *extra))
    watched.source.files["checkpoint"] = more.format().encode()
    assert watched.round().judged == 0
    assert watched.kept == (more, 300)


def test_a_partial_file_may_be_gone_where_there_is_the_full_one(tmp_path):
    watched = Watched(tmp_path / "watch", memory_log(ENTRIES[:300]))
    full = memory_log(ENTRIES[:512]).files
    for path in [path for path in watched.source.files if ".p/44" in path]:
        del watched.source.files[path]
        watched.source.files[path.partition(".p/")[0]] = full[path.partition(".p/")[0]]
    assert watched.round().judged == 300


def test_the_state_is_taken_up_where_it_was_interrupted(tmp_path, monkeypatch):
    """A source that breaks off at each of its reads in turn: nothing is judged twice or never."""
    monkeypatch.setattr(monitorentries, "SAVED_BUNDLES", 1)
    watched = Watched(tmp_path / "watch", memory_log(ENTRIES))
    real, failures = watched.source.read, 0
    for fail_at in range(100):
        watched.source.reads.clear()

        def read(path, fail_at=fail_at):
            if len(watched.source.reads) == fail_at:
                raise SourceUnreachable(path, "the line is cut")
            return real(path)

        watched.source.read = read
        try:
            report = watched.round()
        except SourceUnreachable:
            failures += 1
        else:
            break
    assert failures >= 6
    # What an earlier round had judged is not judged again.
    assert report.judged < 700
    assert watched.kept[1] == 700


def test_a_monitor_that_was_interrupted_goes_on_in_the_same_process(tmp_path):
    """What it had judged and not kept is judged again, not held against itself."""
    source = memory_log(ENTRIES)
    with MonitorState(tmp_path / "watch", ORIGIN) as state:
        following = monitor.Monitor(source, Trusted(), state, tmp_path / "watch")
        with replaced(source.files, "tile/entries/001", None), pytest.raises(NotJudged):
            following.round(NOW)
        assert following.round(NOW).judged == 700


# Forks


@pytest.mark.parametrize("place", [0, 1, 127, 255, 256, 298, 299])
@pytest.mark.parametrize("size", [301, 512, 600])
def test_lg1_a_log_that_signs_two_histories_is_caught_with_both_as_evidence(watched, place, size):
    watched.round()
    kept = watched.source.files["checkpoint"]
    watched.source.files = memory_log(changed(ENTRIES[:size], place)).files
    found = misbehaves(watched, f"another history at {size} leaves than at 300")
    assert found["checkpoint-kept"] == kept
    notes = [Note.parse(found[f"checkpoint-{name}"]) for name in ("kept", "found")]
    older, larger = map(checkpoint_of, notes)
    require_contradiction(older, larger, found["contradiction"])
    # Control: the honest log gives no such file.
    honest = checkpoint_of(Note.parse(memory_log(ENTRIES[:size]).files["checkpoint"]))
    with pytest.raises(BadProof):
        require_contradiction(older, honest, found["contradiction"])


def test_two_histories_of_one_size_contradict_by_themselves(watched):
    watched.round()
    watched.source.files = memory_log(changed(ENTRIES[:300], 7)).files
    found = misbehaves(watched, "another history at 300 leaves than at 300")
    kept, other = (checkpoint_of(Note.parse(found[f"checkpoint-{n}"])) for n in ("kept", "found"))
    assert kept.size == other.size
    assert kept.root != other.root


@pytest.mark.parametrize("size", [0, 1, 256, 299])
def test_a_log_that_goes_back_is_caught(watched, size):
    """Rolled back, or an old checkpoint served anew: both look alike from outside."""
    watched.round()
    publish_onto(watched.source, ENTRIES[:size])
    found = misbehaves(watched, f"went back from 300 to {size} leaves")
    assert checkpoint_of(Note.parse(found["checkpoint-kept"])).size == 300


def test_reordered_entries_are_a_fork(watched):
    watched.round()
    watched.source.files = memory_log([ENTRIES[1], ENTRIES[0], *ENTRIES[2:400]]).files
    misbehaves(watched, "another history")


def test_control_without_the_comparison_a_fork_goes_unseen(watched, monkeypatch):
    monkeypatch.setattr(monitor._Round, "_require_growth", lambda *_: None)
    watched.round()
    watched.source.files = memory_log(changed(ENTRIES[:500], 7)).files
    assert watched.round().judged == 200


def test_control_a_new_monitor_takes_the_fork_for_the_log(watched, tmp_path):
    """What it has not seen before it cannot miss: that takes the witness, below."""
    watched.round()
    forked = memory_log(changed(ENTRIES[:500], 499))
    assert Watched(tmp_path / "new", forked).round().judged == 500


# Signatures


@pytest.mark.parametrize("line", [0, 1])
def test_lg4_a_stripped_signature_is_a_fault(watched, line):
    watched.round()
    note = Note.parse(memory_log(ENTRIES[:310]).files["checkpoint"])
    publish_onto(watched.source, ENTRIES[:310])
    left = tuple(one for n, one in enumerate(note.signatures) if n != line)
    watched.source.files["checkpoint"] = Note(note.text, left).format().encode()
    misbehaves(watched, "no signature of")


def test_another_key_or_no_note_at_all_is_a_fault(watched):
    watched.round()
    root = NaiveTree(ENTRIES).root(310)
    publish_onto(watched.source, ENTRIES[:310])
    watched.source.files["checkpoint"] = (
        signed_checkpoint(310, root, key=OTHER_KEY).format().encode()
    )
    misbehaves(watched, "no signature of")


def test_what_is_no_note_is_a_fault(watched):
    watched.round()
    watched.source.files["checkpoint"] = b"<html>Please log in</html>"
    misbehaves(watched, "not a signed note")


def test_every_flipped_byte_of_the_checkpoint_is_noticed(tmp_path):
    watched = Watched(tmp_path / "watch", memory_log(ENTRIES[:3]))
    watched.round()
    true = watched.source.files["checkpoint"]
    places = range(0, len(true), 1 + len(true) // 60)
    for place in places:
        flipped = true[:place] + bytes([true[place] ^ 1]) + true[place + 1 :]
        with replaced(watched.source.files, "checkpoint", flipped), pytest.raises(Misbehaved):
            watched.round()
    print(f"{len(places)} flipped bytes noticed")
    assert watched.round().judged == 0


# Files


def test_every_tampered_file_is_noticed_and_kept(tmp_path):
    """A byte at several places, cut off, longer: of each tile and each bundle that is read."""
    entries, seen = ENTRIES[:600], Counter()
    for path in memory_log(entries).files.keys() - {"checkpoint"}:
        true = memory_log(entries).files[path]
        middle = len(true) // 2
        for n, data in enumerate(
            (
                bytes([true[0] ^ 1]) + true[1:],
                true[:middle] + bytes([true[middle] ^ 4]) + true[middle + 1 :],
                true[:-1] + bytes([true[-1] ^ 128]),
                true[:-1],
                true[:-32],
                true + bytes(32),
                b"",
            )
        ):
            watched = Watched(tmp_path / path.replace("/", "-") / str(n), memory_log(entries))
            watched.source.files[path] = data
            with pytest.raises(Misbehaved):
                watched.round()
            assert data in watched.evidence().values()
            assert watched.kept[1] == 0
            seen[path] += 1
    print(f"{seen.total()} tamperings of {len(seen)} files noticed")
    assert seen.total() == 7 * 7


def test_a_file_that_is_too_large_is_a_fault(watched):
    def read(path):
        raise BadPublication(path, "has more than 8192 bytes")

    watched.round()
    publish_onto(watched.source, ENTRIES)
    real = watched.source.read
    watched.source.read = lambda path: real(path) if path == "checkpoint" else read(path)
    misbehaves(watched, "has more than 8192 bytes")


def test_control_tiles_that_are_believed_hide_a_tampered_bundle(tmp_path, monkeypatch):
    """Bundle and tile changed alike: only the signed root tells."""
    entries = [version_entry(pointer(n)) for n in range(300)]
    forged = memory_log(changed(entries, 20)).files
    source = memory_log(entries)
    for path in ("tile/entries/000", "tile/0/000"):
        source.files[path] = forged[path]
    watched = Watched(tmp_path / "watch", source)
    misbehaves(watched, "tile/0/000 is not the tile of the signed tree")
    monkeypatch.setattr("ledger.verifiedtiles.hmac.compare_digest", lambda *_: True)
    assert Watched(tmp_path / "control", source).round().judged == 300


# What is no fault


def test_a_log_that_cannot_be_reached_is_no_fault(watched):
    watched.round()
    before = watched.kept

    def read(path):
        raise SourceUnreachable(path, "there is no connection")

    watched.source.read = read
    with pytest.raises(SourceUnreachable):
        watched.round()
    assert watched.kept == before
    assert not list(watched.folder.glob("evidence-*"))


def test_a_log_that_is_gone_is_no_fault_and_one_that_never_was_is_bad_input(watched, tmp_path):
    with pytest.raises(SourceMissing):
        Watched(tmp_path / "other", MemorySource({})).round()
    watched.round()
    del watched.source.files["checkpoint"]
    with pytest.raises(SourceUnreachable):
        watched.round()


@pytest.mark.parametrize(("seen", "minimum"), [(300, 256), (300, 300), (600, 512), (512, 512)])
def test_lg8_a_monitor_at_or_above_the_minimum_goes_on(tmp_path, seen, minimum):
    watched = Watched(tmp_path / "watch", memory_log(ENTRIES[:seen]))
    watched.round()
    watched.source.files = memory_log(ENTRIES).files
    assert prune(watched.source, minimum) >= 2
    assert watched.round().judged == 700 - seen


def test_lg8_a_monitor_that_is_behind_says_so(tmp_path):
    watched = Watched(tmp_path / "watch", memory_log(ENTRIES[:100]))
    watched.round()
    watched.source.files = memory_log(ENTRIES).files
    prune(watched.source, 512)
    with pytest.raises(NotJudged, match="of its entries 100 were judged so far"):
        watched.round()
    with pytest.raises(NotJudged, match="of its entries 0 were judged so far"):
        Watched(tmp_path / "new", watched.source).round()
    assert not list(watched.folder.glob("evidence-*"))


def test_mt4_without_its_quorum_a_checkpoint_is_not_judged_but_a_fork_is_seen(watched):
    watched.round()
    before = watched.kept
    watched.trusted = Trusted(lacking="gouda did not cosign")
    publish_onto(watched.source, ENTRIES[:400])
    with pytest.raises(NotJudged, match="gouda did not cosign"):
        watched.round()
    assert watched.kept == before
    watched.source.files = memory_log(changed(ENTRIES[:400], 3)).files
    misbehaves(watched, "another history")


# Retired keys


def test_pr6_the_closing_checkpoint_is_part_of_the_history(watched):
    tree = NaiveTree(ENTRIES)
    right = Checkpoint(ORIGIN, 200, tree.root(200))
    wrong = Checkpoint(ORIGIN, 200, tree.root(201))
    watched.trusted = Trusted(closings=[right])
    assert watched.round().judged == 300
    # It was compared: also when its tiles are pruned later, the log goes on.
    watched.source.files = memory_log(ENTRIES[:600]).files
    prune(watched.source, 300)
    assert watched.round().judged == 300
    watched.source.files = memory_log(ENTRIES[:610]).files
    watched.trusted = Trusted(closings=[wrong])
    found = misbehaves(watched, "did not grow from the closing checkpoint of 200 leaves")
    assert Checkpoint.parse(found["closing"].decode()) == wrong
    larger = checkpoint_of(Note.parse(found["checkpoint-found"]))
    require_contradiction(wrong, larger, found["contradiction"])


def test_a_log_that_is_older_than_its_closing_checkpoint_is_not_judged(watched):
    closing = Checkpoint(ORIGIN, 301, NaiveTree(ENTRIES).root(301))
    watched.trusted = Trusted(closings=[closing])
    with pytest.raises(NotJudged, match="older than the closing one of 301"):
        watched.round()


# Witnesses


def watcher(source):
    return Watcher("witness.example/w+00000000+AA==", source)


def test_mt4_a_split_view_is_caught_by_the_witness_between(watched):
    """The log shows one history here and another to the witness, from the first day on."""
    view = memory_log(changed(ENTRIES[:280], 9))
    watched.watchers = [watcher(view)]
    found = misbehaves(watched, "one history of 300 leaves here and another of 280 to the witness")
    assert found["checkpoint-witness"] == view.files["checkpoint"]
    here, there = (
        checkpoint_of(Note.parse(found[f"checkpoint-{n}"])) for n in ("found", "witness")
    )
    require_contradiction(there, here, found["contradiction"])


def test_control_without_the_witness_a_split_view_goes_unseen(watched):
    assert watched.round().judged == 300


def test_mt4_what_a_witness_saw_before_it_was_published_is_compared_later(watched):
    """It is kept, also while the witness is silent, and compared also without --witnesses."""
    ahead = memory_log(changed(ENTRIES[:400], 350))
    watched.watchers = [watcher(ahead)]
    report = watched.round()
    assert [(one.view, one.size) for one in report.witnesses] == [(View.AHEAD, 400)]
    watched.watchers = []
    publish_onto(watched.source, ENTRIES[:350])
    assert watched.round().judged == 50
    publish_onto(watched.source, ENTRIES[:401])
    found = misbehaves(watched, "another of 400 to the witness")
    assert found["checkpoint-witness"] == ahead.files["checkpoint"]


def test_a_witness_that_agrees_or_says_nothing(watched):
    class Unreachable(MemorySource):
        def read(self, path):
            raise SourceUnreachable(path, "there is no connection")

    root = NaiveTree(ENTRIES).root(5)
    forged = {"checkpoint": signed_checkpoint(5, root, key=OTHER_KEY).format().encode()}
    watched.watchers = [
        watcher(memory_log(ENTRIES[:250])),
        watcher(memory_log(ENTRIES[:300])),
        watcher(memory_log(ENTRIES[:320])),
        watcher(MemorySource({})),
        watcher(Unreachable({})),
        watcher(MemorySource(forged)),
        watcher(MemorySource({"checkpoint": b"nothing"})),
    ]
    views = [one.view for one in watched.round().witnesses]
    assert views == [
        *(View.AGREES, View.AGREES, View.AHEAD, View.NONE),
        *(View.UNREACHABLE, View.UNUSABLE, View.UNUSABLE),
    ]
    publish_onto(watched.source, ENTRIES[:330])
    watched.watchers = [watcher(memory_log(ENTRIES[:320]))]
    assert [one.view for one in watched.round().witnesses] == [View.AGREES]
    with MonitorState(watched.folder, ORIGIN) as state:
        assert state.waiting() == []
    prune(publish_whole(watched), 300)
    watched.watchers = [watcher(memory_log(ENTRIES[:20]))]
    assert [one.view for one in watched.round().witnesses] == [View.PRUNED]


def publish_whole(watched):
    publish_onto(watched.source, ENTRIES[:600])
    return watched.source


# Entries


def entry_faults():
    """What is signed and should not be: entries before it, the entry, and words of the fault."""
    members, one = Members(), pointer(1)
    governed = encode_version(one, 1, bytes(32), governed=True)
    founding = members.founding()
    stop = members.entry(2, Stop(), (0,))
    item = leaf_hash(one + b"\0")
    listed = members.entry(2, EnactList(item, 1))
    place = Membership(2, 0, ())
    return {
        "no entry": ([], b"\x09" + version_entry(one)[1:], "entry format 9"),
        "a gap": ([version_entry(one)], version_entry(one, 3), "says version 3"),
        "a version twice": ([version_entry(one)], version_entry(one), "says version 1"),
        "brought back": (
            [version_entry(one), erasure_entry(one)],
            version_entry(one, 2),
            "follows the erasure",
        ),
        "an erasure of nothing": ([], erasure_entry(one), "of which there is no version"),
        "a certificate too early": ([version_entry(one)], certificate_entry(one), "not erased"),
        "a certificate twice": (
            [version_entry(one), erasure_entry(one), certificate_entry(one)],
            certificate_entry(one),
            "is certificate 1",
        ),
        "a shred again": ([shred_entry(one)], shred_entry(one), "destroys generation 1"),
        "a put while stopped": ([founding, stop], version_entry(one), "that is stopped"),
        "a stop by nobody": ([founding], members.entry(2, Stop(), ()), "lacks"),
        "an erasure without a list": ([founding, governed], encode_erasure(one, 1), "list"),
        "an erasure by a list that was not enacted": (
            [founding, governed],
            encode_listed_erasure(one, 1, place),
            "was not enacted",
        ),
        "an erasure that is not on the list": (
            [founding, listed, encode_version(pointer(2), 1, bytes(32), governed=True)],
            encode_listed_erasure(pointer(2), 1, place),
            "does not prove its place",
        ),
        "a list by one": ([founding], members.entry(2, EnactList(item, 1), (1,)), "lacks"),
        "a weaker rule by one": (
            [founding],
            members.entry(
                2, SetRule(ActionKind.LIST, Rule(2, frozenset(members_roles(members)))), (1,)
            ),
            "lacks",
        ),
        "an approval for another state": (
            [founding, stop],
            members.entry(3, Resume(), (0, 1))[:20] + members.entry(2, Resume(), (0, 1))[20:],
            "",
        ),
    }


def members_roles(members):
    return {member.role for member in members.found.members}


@pytest.mark.parametrize("name", entry_faults())
@pytest.mark.parametrize("before", [0, 255, 400])
def test_go2_an_entry_that_is_not_valid_is_reported_with_its_inclusion(tmp_path, name, before):
    standing, entry, words = entry_faults()[name]
    filler = [version_entry(pointer(1 << 90 | n)) for n in range(before)]
    entries = [*filler, *standing]
    watched = Watched(tmp_path / "watch", memory_log(entries))
    assert watched.round().size == len(entries)
    index = len(entries)
    publish_onto(watched.source, [*entries, entry, *ENTRIES[:20]])
    kept = watched.kept
    with pytest.raises(Misbehaved, match=f"entry {index} .*{words}"):
        watched.round()
    assert watched.kept[1] == kept[1]
    found = watched.evidence()
    # What an auditor does offline.
    proof = LogProof.parse(found["entry.tlog-proof"])
    signed = checkpoint_of(proof.checkpoint)
    assert (proof.index, found["entry"]) == (index, entry)
    verify_inclusion(leaf_hash(entry), index, signed.size, proof.hashes, signed.root)


def test_go3_what_the_rules_allow_is_followed(tmp_path):
    """Founded, stopped, rectified and erased meanwhile, resumed, listed, destroyed."""
    members, one, two = Members(), pointer(1), pointer(2)
    entries = [
        members.founding(),
        encode_version(one, 1, bytes(32), governed=True),
        version_entry(two),
        members.entry(2, Stop(), (0,)),
        version_entry(two, 2),
        erasure_entry(two, 2),
        members.entry(3, Resume(), (0, 1)),
        members.entry(4, EnactList(leaf_hash(one + b"\0"), 1), (1, 2)),
        encode_listed_erasure(one, 1, Membership(4, 0, ())),
        certificate_entry(one),
    ]
    for step in (1, 3, len(entries)):
        watched = Watched(tmp_path / str(step), MemorySource({}))
        stops = []
        for size in range(step, len(entries) + 1, step):
            publish_onto(watched.source, entries[:size])
            stops.append(watched.round().stopped)
        assert any(stops) is (step < 10)
        assert not stops[-1]


def test_another_founding_than_the_trusted_one_is_a_fault(tmp_path):
    members = Members()
    source = memory_log([version_entry(pointer(1)), members.founding()])
    digest = monitorentries.hashlib.sha256(members.founding()).digest()
    assert Watched(tmp_path / "right", source, Trusted(digest)).round().judged == 2
    watched = Watched(tmp_path / "wrong", source, Trusted(bytes(32)))
    with pytest.raises(Misbehaved, match="entry 1 is another founding entry"):
        watched.round()


def test_control_without_the_rules_a_violation_goes_unseen(tmp_path, monkeypatch):
    standing, entry, _ = entry_faults()["a put while stopped"]
    monkeypatch.setattr(monitorentries, "judge", lambda origin, state, *_: state)
    watched = Watched(tmp_path / "watch", memory_log([*standing, entry]))
    assert watched.round().judged == 3


# State


def test_a_second_monitor_in_the_same_folder_is_refused(watched):
    watched.round()
    with MonitorState(watched.folder, ORIGIN), pytest.raises(MonitorBusy):
        watched.round()


def test_the_state_of_another_log_is_bad_input(watched):
    watched.round()
    with pytest.raises(Malformed):
        MonitorState(watched.folder, "datakluis.example/elders")
    assert watched.round().judged == 0


@pytest.mark.parametrize("data", [b"", b"not a database" * 100, b"SQLite format 3\0" + bytes(500)])
def test_a_damaged_state_is_not_taken_for_a_new_one(watched, data):
    watched.round()
    path = watched.folder / "monitor.db"
    path.write_bytes(data)
    if data:
        with pytest.raises(MonitorStateLost):
            watched.round()


def test_a_fact_that_is_damaged_is_noticed(watched):
    watched.round()
    for name in ("checkpoint", "governance", "origin"):
        with MonitorState(watched.folder, ORIGIN) as state:
            (before,) = state._connection.execute(
                "SELECT value FROM fact WHERE name = ?", (name,)
            ).fetchone()
            state._connection.execute("UPDATE fact SET value = x'00ff' WHERE name = ?", (name,))
        with pytest.raises(MonitorStateLost):
            watched.round()
        connection = __import__("sqlite3").connect(watched.folder / "monitor.db")
        connection.execute("UPDATE fact SET value = ? WHERE name = ?", (before, name))
        connection.commit()
        connection.close()
    assert watched.round().judged == 0


def test_the_docstring_says_what_the_file_holds(watched):
    watched.round()
    with MonitorState(watched.folder, ORIGIN) as state:
        rows = state._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        tables = {name for (name,) in rows}
        assert state._connection.execute("PRAGMA application_id").fetchone() == (0x6B6C6D6E,)
        (value,) = state._connection.execute(
            "SELECT value FROM subject WHERE key = ?", (ENTRIES[0][4:20] + b"\0",)
        ).fetchone()
    said = MonitorState.__module__
    text = __import__(said, fromlist=["x"]).__doc__
    assert tables == set(re.findall(r"^    (fact|subject|closing|waiting) ", text, re.MULTILINE))
    assert value >= 1 << 2


def test_memory_stays_flat_while_a_log_is_followed(tmp_path, monkeypatch):
    """Eight times the entries take no more than a fifth more memory."""
    monkeypatch.setattr(monitorentries, "SAVED_BUNDLES", 4)
    peaks = []
    for count in (4_000, 32_000):
        source = memory_log([version_entry(pointer(n)) for n in range(count)])
        tracemalloc.start()
        Watched(tmp_path / str(count), source).round()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    print(f"peak memory of following 4,000 and 32,000 entries: {peaks} bytes")
    assert peaks[1] < peaks[0] * 1.2 + 100_000
