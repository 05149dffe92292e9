"""The published schemas fit every file that is written, and no file of another shape."""

import copy
import json
import re

import pytest
from anchor_samples import CONSISTENCY, EVIDENCE, SCHEMAS, TRUST, world
from jsonschema import Draft202012Validator

from anchor.steps import Step


def validator(name: str) -> Draft202012Validator:
    schema = json.loads((SCHEMAS / f"{name}-1.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


SCHEMA = {name: validator(name) for name in ("evidence", "trust", "consistency")}
OPTIONAL = {"opening", "state", "consistency", "closing", "witness_policies", "governance"}
EVERY_EVIDENCE = [
    world.evidence(leaf, sizes, regime, anchored=anchored, opened=opened)
    for regime in world.SIGNERS
    for leaf in range(len(world.LEAVES))
    for sizes in ([4], [7], [12], [16], [4, 7], [4, 7, 12, 16])
    for anchored in (False, True)
    for opened in (False, True)
    if leaf < sizes[0] and not (opened and leaf not in world.OPENED)
]


def faults(kind: str, document: object) -> list[str]:
    return [error.json_path for error in SCHEMA[kind].iter_errors(document)]


def test_all_evidence_that_is_written_fits_the_schema():
    for evidence in EVERY_EVIDENCE:
        assert faults("evidence", json.loads(evidence.format())) == []
    assert len(EVERY_EVIDENCE) > 100


@pytest.mark.parametrize("name", CONSISTENCY)
def test_all_consistency_files_that_are_written_fit_the_schema(name):
    assert faults("consistency", json.loads(CONSISTENCY[name])) == []


@pytest.mark.parametrize("name", TRUST)
def test_all_trust_files_that_are_written_fit_the_schema(name):
    assert faults("trust", json.loads(TRUST[name])) == []


def test_the_schema_names_every_step_in_order():
    schema = SCHEMA["trust"].schema
    assert schema["properties"]["require"]["items"]["enum"] == [step.value for step in Step]


def test_the_schemas_are_strict_in_every_object():
    def objects(node):
        if isinstance(node, dict):
            if node.get("type") == "object":
                yield node
            for child in node.values():
                yield from objects(child)

    for one in SCHEMA.values():
        found = list(objects(one.schema))
        assert found
        for schema in found:
            assert schema["additionalProperties"] is False
            assert set(schema["properties"]) - set(schema["required"]) <= OPTIONAL


WHOLE = "version, anchored and opened"
PATH_OF = {
    "another format": ("format", "datakluis-evidence/2"),
    "upper-case entry": ("entry", lambda text: text.upper()),
    "entry of group 16": ("entry", lambda text: text[:6] + "10" + text[8:]),
    "entry of kind 7": ("entry", lambda text: text[:2] + "07" + text[4:]),
    "version under no suite": ("entry", lambda text: text[:4] + "00" + text[6:]),
    "certificate with an opening": ("entry", lambda text: text[:2] + "0300" + text[6:]),
    "shred with an opening": ("entry", lambda text: "01040000" + text[8:48]),
    "shred with a digest": ("entry", lambda text: "01040000" + text[8:]),
    "erasure with a digest": ("entry", lambda text: "01020000" + text[8:]),
    "entry of version 0": ("entry", lambda text: text[:40] + "00000000" + text[48:]),
    "entry cut short": ("entry", lambda text: text[:-2]),
    "no groups": ("groups", []),
    "65 groups": ("groups", lambda groups: groups * 65),
    "one group twice": ("groups", lambda groups: groups * 2),
    "group without statement": ("groups.0.statement", None),
    "proof without its first line": ("groups.0.proof", lambda text: text.partition("\n")[2]),
    "proof with an extra line": (
        "groups.0.proof",
        lambda text: text.replace("\nindex", "\nextra YQ==\nindex"),
    ),
    "proof with an index of 20 digits": (
        "groups.0.proof",
        lambda text: text.replace("index 4", "index 40000000000000000000"),
    ),
    "unsigned proof": ("groups.0.proof", lambda text: text.rpartition("\n\n")[0] + "\n\n"),
    "statement of another domain": ("groups.0.statement", lambda text: "x" + text),
    "anchor of another kind": ("groups.0.anchors.0.target", "global"),
    "receipt that was cut": ("groups.0.anchors.0.receipt", lambda text: text[:-1]),
    "two anchors": ("groups.0.anchors", lambda anchors: anchors * 2),
    "short commitment key": ("opening.commitment_key", lambda text: text[2:]),
    "payload without padding": ("opening.payload", lambda text: text.rstrip("=") + "a"),
    "payload with unused bits": ("opening.payload", "AB=="),
    "opening of an erasure": ("entry", lambda text: "01020000" + text[8:48]),
    "governance under a pointer": ("entry", lambda text: "01050007" + text[8:48] + "00"),
    "listed erasure without a list": ("entry", lambda text: "01060000" + text[8:48]),
    "empty consistency": ("groups.0.consistency", []),
    "consistency that is no hash": ("groups.0.consistency", ["AAAA"]),
    "state of a version": ("state", [{"entry": "01050007", "proof": "x"}]),
    "extra member": ("comment", "x"),
    "extra member of a group": ("groups.0.comment", "x"),
    "extra member of an anchor": ("groups.0.anchors.0.comment", "x"),
    "extra member of the opening": ("opening.comment", "x"),
}
TRUST_PATH_OF = {
    "another format": ("format", "datakluis-trust/2"),
    "empty origin": ("origin", ""),
    "origin of two lines": ("origin", "a\nb"),
    "unknown step": ("require", ["luck"]),
    "step twice": ("require", ["inclusion", "inclusion"]),
    "no log key": ("log_keys", []),
    "unknown algorithm": ("log_keys.0.algorithm", "rsa"),
    "key ID in capitals": ("log_keys.0.key", lambda text: re.sub("[+].*[+]", "+ABCDEF01+", text)),
    "key of another type": ("log_keys.0.key", lambda text: re.sub("[+]A[Q-Za-f]", "+Bg", text)),
    "negative size": ("log_keys.0.first_size", -1),
    "size of 2**63": ("log_keys.0.last_size", 2**63),
    "size that is a text": ("log_keys.0.first_size", "0"),
    "size that is half": ("log_keys.0.last_size", 1.5),
    "key that is null": ("local_anchor_keys.0", None),
    "key twice": ("local_anchor_keys", lambda keys: keys * 2),
    "certificate in capitals": ("organisation_certificates", ["30AB"]),
    "certificate that is none": ("organisation_certificates", ["3082 "]),
    "certificate twice": ("organisation_certificates", ["3082", "3082"]),
    "no list of certificates": ("organisation_certificates", None),
    "extra member": ("comment", "x"),
    "extra member of a key": ("log_keys.0.comment", "x"),
}


def changed(whole: bytes, path: str, change: object) -> object:
    document = copy.deepcopy(json.loads(whole))
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    node = document
    for part in parents:
        node = node[part]
    node[last] = change(node[last]) if callable(change) else change
    assert document != json.loads(whole)
    return document


CENTURY_PATH_OF = {
    "closed without a closing checkpoint": ("log_keys.0", lambda key: _without(key, "closing")),
    "closing checkpoint of an open range": ("log_keys.2.closing", "a\n1\nx\n"),
    "closing checkpoint that is signed": ("log_keys.0.closing", lambda text: text + "\n— x AAAA\n"),
    "key of another algorithm": ("log_keys.0.algorithm", "ml-dsa-44"),
    "key of a shorter algorithm": ("log_keys.1.algorithm", "ed25519"),
    "no policies": ("witness_policies", []),
    "policy without a newline": ("witness_policies.0.policy", "quorum none"),
    "policy without its range": ("witness_policies.0", lambda one: _without(one, "last_size")),
    "extra member of a policy": ("witness_policies.0.comment", "x"),
    "founding in capitals": ("governance.founding", "A" * 64),
    "founding that is short": ("governance.founding", lambda text: text[2:]),
    "no founding": ("governance", {}),
}
GROWTH_PATH_OF = {
    "another format": ("format", "datakluis-consistency/2"),
    "no hashes": ("proof", []),
    "a hash that is none": ("proof.0", "AAAA"),
    "an unsigned checkpoint": ("old", lambda text: text.partition("\n\n")[0] + "\n"),
    "a checkpoint of four lines": ("new", lambda text: "x\n" + text),
    "extra member": ("comment", "x"),
}


def _without(document: dict, name: str) -> dict:
    return {key: value for key, value in document.items() if key != name}


@pytest.mark.parametrize("name", CENTURY_PATH_OF)
def test_other_trust_files_with_closed_ranges_do_not_fit(name):
    assert faults("trust", changed(TRUST["governed"], *CENTURY_PATH_OF[name])) != []


@pytest.mark.parametrize("name", GROWTH_PATH_OF)
def test_other_consistency_files_do_not_fit(name):
    assert faults("consistency", changed(CONSISTENCY["one key"], *GROWTH_PATH_OF[name])) != []


@pytest.mark.parametrize("name", PATH_OF)
def test_other_evidence_does_not_fit(name):
    assert faults("evidence", changed(EVIDENCE[WHOLE], *PATH_OF[name])) != []


@pytest.mark.parametrize("name", TRUST_PATH_OF)
def test_other_trust_files_do_not_fit(name):
    assert faults("trust", changed(TRUST["one"], *TRUST_PATH_OF[name])) != []


@pytest.mark.parametrize("missing", ["format", "entry", "groups"])
def test_evidence_without_a_member_does_not_fit(missing):
    document = json.loads(EVIDENCE[WHOLE])
    del document[missing]
    assert faults("evidence", document) == ["$"]


@pytest.mark.parametrize(
    "missing",
    [
        *("format", "origin", "require", "log_keys", "local_anchor_keys"),
        "organisation_certificates",
    ],
)
def test_a_trust_file_without_a_member_does_not_fit(missing):
    document = json.loads(TRUST["one"])
    del document[missing]
    assert faults("trust", document) == ["$"]


def test_control_a_lax_schema_is_seen():
    lax = copy.deepcopy(SCHEMA["evidence"].schema)
    del lax["additionalProperties"]
    document = changed(EVIDENCE[WHOLE], "comment", "x")
    assert list(Draft202012Validator(lax).iter_errors(document)) == []
    assert faults("evidence", document) == ["$"]
