"""From a vault's record to verified evidence, before and after its erasure (P1, P3, ER9, LG3)."""

import base64
import hashlib
import json

import independent_verifier
import pytest
from anchor_samples import SCHEMAS
from jsonschema import Draft202012Validator

from anchor.evidence import Evidence
from anchor.steps import Step, StepState, Verdict
from anchor.trust import TrustFile
from anchor.verify import verify
from policy import Ground
from vault import Erased, NotFound, Vault, proving

PASSPHRASE = "een wachtwoord van de proef"
SUBJECT = "999990019"
PAYLOAD = '{"naam": "Zoë van den Berg-Ünlü", "burgerservicenummer": "999990019"}'.encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("vault") / "hoorn"
    Vault.create(place, PASSPHRASE, origin="datakluis.example/hoorn").close()
    return place


@pytest.fixture(scope="module")
def vault(folder):
    with Vault.open(folder, PASSPHRASE) as one:
        yield one


@pytest.fixture(scope="module")
def empty_report(vault):
    """What anchoring says before the first record; asked for by the first test."""
    return vault.anchor(), vault.anchor_status()


@pytest.fixture
def pointer(vault, empty_report):
    return vault.put(PAYLOAD, category="nieuwsbrief", subject=SUBJECT)


def states(evidence: Evidence, trust: TrustFile) -> dict[Step, StepState]:
    report = verify(Evidence.parse(evidence.format()), TrustFile.parse(trust.format()))
    accepted = independent_verifier.accepts(evidence.format(), trust.format())
    assert accepted is (report.verdict is Verdict.VERIFIED)
    return {one.step: one.state for one in report.steps}


def schema_faults(kind: str, data: bytes) -> list[str]:
    schema = json.loads((SCHEMAS / f"{kind}-1.schema.json").read_text(encoding="utf-8"))
    return [error.message for error in Draft202012Validator(schema).iter_errors(json.loads(data))]


def test_an_empty_vault_has_nothing_to_anchor(empty_report):
    done, (status,) = empty_report
    assert done == []
    assert (status.size, status.anchored_at, status.backlog) == (0, None, 0)


def test_evidence_before_the_first_anchor(vault, pointer):
    vault.checkpoint()
    found = states(vault.prove(pointer), vault.trust())
    assert found[Step.INCLUSION] is StepState.PASSED
    assert found[Step.LOCAL_ANCHOR] is StepState.NOT_CHECKED


def test_evidence_of_a_record_that_nobody_integrated_yet(vault, pointer):
    assert states(vault.prove(pointer), vault.trust())[Step.INCLUSION] is StepState.PASSED


def test_anchored_and_disclosed_evidence(vault, pointer):
    vault.anchor()
    evidence = vault.prove(pointer, disclose=True)
    found = states(evidence, vault.trust())
    assert set(found.values()) == {StepState.PASSED, StepState.NOT_CHECKED}
    assert [step for step, state in found.items() if state is StepState.NOT_CHECKED] == [
        Step.WITNESSES,
        Step.PUBLIC_ANCHOR,
        Step.AUTHORISATION,
    ]
    assert evidence.opening.payload == PAYLOAD
    assert len(evidence.format()) <= 8 * 1024


def test_what_the_vault_writes_fits_the_schemas(vault, pointer):
    vault.anchor()
    for disclose in (False, True):
        assert schema_faults("evidence", vault.prove(pointer, disclose=disclose).format()) == []
    assert schema_faults("trust", vault.trust().format()) == []


def test_every_version_has_evidence_of_its_own(vault, pointer):
    vault.rectify(pointer, PAYLOAD + b" ")
    vault.anchor()
    for version, payload in ((1, PAYLOAD), (2, PAYLOAD + b" ")):
        evidence = vault.prove(pointer, version=version, disclose=True)
        assert states(evidence, vault.trust())[Step.OPENING] is StepState.PASSED
        assert (evidence.entry.version, evidence.opening.payload) == (version, payload)
    assert vault.prove(pointer).entry.version == 2
    with pytest.raises(NotFound):
        vault.prove(pointer, version=3)


def test_an_erased_record_is_proven_but_never_opened_again(vault, pointer):
    """ER9: the entry still verifies, the payload does not come back."""
    vault.anchor()
    disclosed = vault.prove(pointer, disclose=True)
    vault.erase(pointer, Ground.CONSENT_WITHDRAWN)
    vault.anchor()
    evidence = vault.prove(pointer)
    found = states(evidence, vault.trust())
    assert found[Step.INCLUSION] is found[Step.LOCAL_ANCHOR] is StepState.PASSED
    assert found[Step.OPENING] is StepState.NOT_CHECKED
    assert evidence.opening is None
    with pytest.raises(Erased) as caught:
        vault.prove(pointer, disclose=True)
    assert caught.value.leaf == vault.erasure_index(pointer)
    # What was disclosed before stays what it was, in the hands of whoever got it.
    assert states(disclosed, vault.trust())[Step.OPENING] is StepState.PASSED


def test_control_before_it_is_erased_it_opens(vault, pointer):
    assert vault.prove(pointer, disclose=True).opening.payload == PAYLOAD


def test_evidence_without_an_opening_says_nothing_about_the_person(vault, pointer):
    """P3: neither the payload nor the subject, in clear, in hex, in base64 or as a plain hash."""
    vault.anchor()
    closed, opened = (vault.prove(pointer, disclose=one).format() for one in (False, True))
    subject = SUBJECT.encode()
    traces = []
    for secret in (PAYLOAD, subject, "Zoë".encode()):
        for value in (secret, hashlib.sha256(secret).digest()):
            traces += [value, value.hex().encode(), base64.b64encode(value)]
    assert not [trace for trace in traces if trace in closed]
    # Control: the search finds what is there.
    assert [trace for trace in traces if trace in opened] == [base64.b64encode(PAYLOAD)]


def test_only_the_digest_leaves_the_house(vault, pointer, monkeypatch):
    """LG3: with a real record in the vault, a target hears 32 bytes."""
    heard = []

    class Listener:
        name = "listener"

        def submit(self, *arguments: object, **named: object) -> str:
            heard.append((arguments, named))
            return "thanks"

    monkeypatch.setattr(proving, "_targets", lambda *_: [Listener()])
    (done,) = vault.anchor()
    with vault._core.database.read() as connection:
        statement = connection.exec_driver_sql(
            "SELECT statement FROM anchor_statement WHERE size = ?", (done.size,)
        ).scalar_one()
    assert heard == [((hashlib.sha256(statement.encode()).digest(),), {})]
    assert len(heard[0][0][0]) == 32
    with vault._core.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM anchor_receipt WHERE target = 'listener'")


def test_the_audit_finds_the_anchors_in_order_and_a_change_in_them(vault, pointer, folder):
    vault.anchor()
    assert [str(fault) for fault in vault.audit().faults] == []
    path = folder / "anchors" / "local-anchor"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"\n0\n", b"\n1\n", 1))
    found = [str(fault) for fault in vault.audit().faults]
    path.write_bytes(whole)
    assert found[0] == f"local anchor: receipt 0 in {path} was changed"
