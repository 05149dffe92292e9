"""The SDK: decisions, erasures and holds (ER1, ER2, ER3, ER9, ST15, D2 to D10)."""

import datetime as dt

import pytest
from sdk_calls import CONSENT, counts, put, steps_of

from anchor.evidence import Evidence
from anchor.steps import Step, StepState, Verdict
from anchor.verify import verify
from vault import (
    DecisionCode,
    Erased,
    Ground,
    Incomplete,
    InvalidInput,
    Outcome,
    Refused,
    destroying,
    keynode,
    listing,
)

GONE = "erased"
# A request, and the row, outcome and article that answer it.
REQUESTS = {
    "D2 erased before": ("nieuwsbrief", None, CONSENT, GONE, "D2", "Art. 12(3)"),
    "D2b a legal duty to erase": (
        "nieuwsbrief", None, Ground.LEGAL_DUTY, None, "D2b", "Art. 17(1)(e)"
    ),
    "D2b comes before the hold": (
        "nieuwsbrief", None, Ground.LEGAL_DUTY, "hold", "D2b", "Art. 17(1)(e)"
    ),
    "D3 a hold": ("nieuwsbrief", None, CONSENT, "hold", "D3", "Art. 17(3)(e), 18(1)(c)"),
    "D3 a hold on an expired record": (
        "kindpakket", dt.date(2010, 1, 1), Ground.NOT_NEEDED, "hold", "D3", "Art. 17(3)(e)"
    ),
    "D5 unlawful": ("nieuwsbrief", None, Ground.UNLAWFUL, None, "D5", "Art. 17(1)(d)"),
    "D7 for ever": ("organisatie", None, Ground.NOT_NEEDED, None, "D7", "Art. 17(3)(b), (d)"),
    "D8 not yet": (
        "kindpakket", dt.date(2025, 1, 1), Ground.NOT_NEEDED, None, "D8", "Art. 17(3)(b)"
    ),
    "D8 no brondatum": ("wmo", None, Ground.OBJECTION, None, "D8", "Art. 17(3)(b)"),
    "D9 expired": (
        "kindpakket", dt.date(2010, 1, 1), Ground.NOT_NEEDED, None, "D9", "Art. 17(1)(a)"
    ),
    "D10 no duty": ("nieuwsbrief", None, CONSENT, None, "D10", "Art. 17(1)(b)"),
    "D10 a child's service": (
        "nieuwsbrief", None, Ground.CHILD_SERVICE, None, "D10", "Art. 17(1)(f)"
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("category", "brondatum", "ground", "before", "code", "article"),
    REQUESTS.values(),
    ids=REQUESTS,
)
def test_each_request_gets_one_code_with_its_article(
    vault, rows, category, brondatum, ground, before, code, article
):
    pointer = put(vault, b"x", category=category, brondatum=brondatum)
    if before == GONE:
        vault.erase(pointer, CONSENT)
    elif before == "hold":
        vault.place_hold(pointer, "a hearing on 1 May")
    decision = vault.decide(pointer, ground)
    assert decision.code == code
    assert decision.article.startswith(article)
    assert decision.article.endswith("GDPR")
    state = counts(rows)
    if code == "D10":
        assert vault.erase(pointer, ground).decision == decision
        with pytest.raises(Erased):
            vault.get(pointer)
        return
    kind = Erased if code == "D2" else Refused
    with pytest.raises(kind) as answer:
        vault.erase(pointer, ground)
    assert answer.value.decision == decision
    assert answer.value.pointer == pointer
    if kind is Refused:
        assert str(answer.value) == f"record {pointer}: {decision.sentence_en}"
        assert vault.get(pointer) == b"x"
        assert counts(rows) == state


def test_all_answers_that_the_sdk_can_give_were_asked_for():
    assert {request[4] for request in REQUESTS.values()} == {code.value for code in DecisionCode}
    print(f"{len(REQUESTS)} requests, {len(DecisionCode)} codes")


def test_the_term_ends_with_its_last_day(vault, clock):
    # ST15: ended on 31-12-2019 with a term of 7 years, so it is kept through 31-12-2026.
    pointer = put(
        vault,
        category="kindpakket",
        brondatum=dt.date(2019, 12, 31),
        record_date=dt.date(2020, 1, 1),
    )
    answers = {}
    for day in (dt.date(2026, 12, 30), dt.date(2026, 12, 31), dt.date(2027, 1, 1)):
        clock.day = day
        answers[day] = vault.decide(pointer, Ground.NOT_NEEDED)
    assert [answer.code for answer in answers.values()] == ["D8", "D8", "D9"]
    assert {answer.date for answer in answers.values()} == {dt.date(2026, 12, 31)}
    assert "31 December 2026" in answers[clock.day].sentence_en
    assert answers[clock.day].outcome is Outcome.QUEUED
    with pytest.raises(Refused):  # queued for a destruction list, not destroyed on request
        vault.erase(pointer, Ground.NOT_NEEDED)
    assert vault.get(pointer) == b"{}"


def test_a_term_from_a_leap_day_ends_on_the_last_of_february(vault):
    # ST3.
    pointer = put(vault, category="kindpakket", brondatum=dt.date(2024, 2, 29))
    assert vault.decide(pointer, Ground.NOT_NEEDED).date == dt.date(2031, 2, 28)


def test_deciding_changes_nothing(vault, rows):
    pointer = put(vault)
    before = counts(rows), rows("SELECT * FROM vault_tree")
    for ground in Ground:
        vault.decide(pointer, ground)
    assert (counts(rows), rows("SELECT * FROM vault_tree")) == before
    assert vault.get(pointer) == b"{}"


def test_an_erasure_takes_keys_ciphertexts_and_dates_of_all_versions(vault, rows, vault_folder):
    # ER1: the storage is searched for each ciphertext and each key.
    pointer = put(vault, b"first payload", brondatum=dt.date(2025, 5, 5))
    vault.rectify(pointer, b"second payload")
    vault.place_hold(put(vault, b"another's"), "reason")
    core = vault._core
    with core.database.read() as connection:
        read_key = core.read_key(connection)
        found = connection.exec_driver_sql(
            "SELECT v.slot, v.body FROM vault_version v JOIN vault_record r ON r.id = v.record_id"
            " WHERE r.subject_id = 1 AND r.current = 2"
        ).all()
        keys = [read_key(slot) for slot, _ in found]
    bodies = [bytes(body) for _, body in found]
    assert len(bodies) == 2
    erasure = vault.erase(pointer, CONSENT)
    assert (erasure.pointer, erasure.versions, erasure.generation) == (pointer, 2, 1)
    assert erasure.erased_at == core.clock.now()
    assert erasure.decision.code is DecisionCode.D10
    tombstone = rows(
        "SELECT category, current, record_date, brondatum, subject_id, import_slot, on_hold,"
        " row_tag, ground FROM vault_record WHERE erased_act IS NOT NULL"
    )
    assert tombstone == [(None, 2, None, None, None, None, 0, None, "consent-withdrawn")]
    vault.close()
    everything = b"".join(path.read_bytes() for path in vault_folder.rglob("*") if path.is_file())
    assert not any(secret in everything for secret in (*bodies, *keys, *(b[13:45] for b in bodies)))
    assert b"payload" not in everything


def test_the_search_of_the_storage_finds_a_ciphertext_that_lives(vault, rows, vault_folder):
    # The control of the test above.
    put(vault, b"first payload")
    ((body,),) = rows("SELECT body FROM vault_version")
    vault.close()
    assert bytes(body) in (vault_folder / "vault.db").read_bytes()


def test_nothing_but_history_and_proof_is_left_of_an_erased_record(vault, reopen):
    pointer = put(vault, b"x")
    other_process = reopen()
    assert other_process.get(pointer) == b"x"  # it has the key in its cache now
    vault.erase(pointer, CONSENT)
    for one in (vault, other_process, reopen()):
        for call in (
            lambda one=one: one.get(pointer),
            lambda one=one: one.rectify(pointer, b"y"),
            lambda one=one: one.place_hold(pointer, "reason"),
            lambda one=one: one.prove(pointer, disclose=True),
            lambda one=one: one.erase(pointer, CONSENT),
        ):
            with pytest.raises(Erased, match=f"^record {pointer} was erased: ") as gone:
                call()
            assert gone.value.pointer == pointer
            assert gone.value.erased_at == vault._core.clock.now()
        assert [version.erased for version in one.history(pointer)] == [True]
        assert one.find("999990019") == []


def test_erased_carries_the_leaf_of_the_erasure(vault):
    pointer = put(vault)
    assert vault.erasure_index(pointer) is None
    vault.erase(pointer, CONSENT)
    with pytest.raises(Erased, match=r"was erased: pending in the ledger$") as gone:
        vault.get(pointer)
    assert gone.value.leaf is None
    assert gone.value.decision is None
    assert vault.erasure_index(pointer) is None
    # Asked again (D2), the entry is made a leaf first.
    with pytest.raises(Erased) as gone:
        vault.erase(pointer, CONSENT)
    leaf = gone.value.leaf
    assert isinstance(leaf, int)
    assert gone.value.decision.code is DecisionCode.D2
    assert gone.value.decision.outcome is Outcome.ALREADY_ERASED
    assert vault.erasure_index(pointer) == leaf
    with pytest.raises(Erased, match=f"was erased: entry {leaf} of the ledger$") as gone:
        vault.get(pointer)
    assert gone.value.leaf == leaf


def test_an_erased_record_still_proves_inclusion_and_opens_no_more(vault):
    # ER9.
    pointer = put(vault, b"the payload")
    vault.anchor()
    trust = vault.trust()
    before = vault.prove(pointer, disclose=True)
    assert steps_of(before, trust)[Step.OPENING] is StepState.PASSED  # the control
    vault.erase(pointer, CONSENT)
    after = vault.prove(pointer)
    assert after.entry == before.entry
    assert after.opening is None
    report = verify(Evidence.parse(after.format()), trust)
    assert report.verdict is Verdict.VERIFIED
    found = {step.step: step.state for step in report.steps}
    assert found[Step.INCLUSION] is found[Step.LOCAL_ANCHOR] is StepState.PASSED
    assert found[Step.OPENING] is StepState.NOT_CHECKED
    with pytest.raises(Erased):
        vault.prove(pointer, disclose=True)
    assert vault.audit().faults == []


@pytest.mark.parametrize("left", ["key", "body"])
def test_a_destruction_that_left_something_is_incomplete_and_not_done(
    vault, rows, monkeypatch, left
):
    # ER2: it is read back from the stored bytes.
    pointer = put(vault, b"x")
    vault.rectify(pointer, b"y")
    if left == "key":

        def only_the_state(node, position):
            node[position] = keynode.SlotState.ERASED

        monkeypatch.setattr(keynode, "zero_slot", only_the_state)
    else:
        leave_tombstone = destroying._leave_tombstone

        def restore_a_body(connection, target, act_id):
            leave_tombstone(connection, target, act_id)
            connection.exec_driver_sql(
                "UPDATE vault_version SET body = x'00' WHERE record_id = ? AND number = 1",
                (target.record.id,),
            )

        monkeypatch.setattr(destroying, "_leave_tombstone", restore_a_body)
    what = f"{left} of version 1.* was not destroyed; run"
    with pytest.raises(Incomplete, match=f"^record {pointer}: {what}"):
        vault.erase(pointer, CONSENT)
    faults = [str(fault) for fault in vault.audit().faults]
    assert faults != []
    with pytest.raises(Erased):
        vault.get(pointer)


def test_an_erasure_that_fails_halfway_changes_nothing(vault, rows, monkeypatch):
    pointer = put(vault, b"x")
    before = counts(rows)

    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(listing, "append_pending", fail)
    with pytest.raises(ZeroDivisionError):
        vault.erase(pointer, CONSENT)
    assert counts(rows) == before
    assert vault.get(pointer) == b"x"
    assert vault.find("999990019") == [pointer]
    monkeypatch.undo()
    assert vault.audit().faults == []
    assert vault.erase(pointer, CONSENT).versions == 1


# Holds (D3)


def test_a_hold_stops_the_erasure_and_its_reason_is_sealed(vault, rows, reopen):
    pointer = put(vault, b"x")
    vault.place_hold(pointer, "hearing of Jansen on 1 May")
    vault.place_hold(pointer, "inspection")
    vault.rectify(pointer, b"y")
    with pytest.raises(Refused) as refused:
        reopen().erase(pointer, CONSENT)
    assert refused.value.decision.code is DecisionCode.D3
    assert refused.value.decision.outcome is Outcome.HELD
    assert "Jansen" not in f"{refused.value} {refused.value.decision}"
    reasons = [bytes(reason) for (reason,) in rows("SELECT reason FROM vault_hold")]
    assert len(reasons) == 2
    assert not any(b"Jansen" in reason for reason in reasons)
    assert vault.get(pointer) == b"y"
    assert vault.audit().faults == []


@pytest.mark.parametrize("reason", ["", "x" * 4_097, "é" * 2_049, "Jansen\udcff"])
def test_a_reason_of_1_to_4096_bytes_is_needed_and_not_repeated(vault, rows, reason):
    pointer = put(vault)
    with pytest.raises(InvalidInput, match=r"^the reason of a hold is ") as refused:
        vault.place_hold(pointer, reason)
    assert "Jansen" not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
    assert counts(rows)["hold"] == 0
    vault.place_hold(pointer, "x" * 4_096)
    assert counts(rows)["hold"] == 1
