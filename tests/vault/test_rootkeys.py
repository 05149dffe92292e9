"""The contract of root key providers, kept by each of them: files, PKCS#11, transit and AWS KMS."""

import base64
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from policy.assurance import AssuranceClass, Presence, ProviderKind
from vault.errors import ConfigurationError, Damaged, InvalidInput, KeyGone, ProviderDenied
from vault.rootkeys.opening import check_options, open_provider
from vault.rootkeys.provider import EPOCH_KEY_BYTES, KeyContext, Surroundings, TreeNumber

PASSPHRASE = "only-the-contract-knows"
REPOSITORY = Path(__file__).parents[2]
CLASSES = {
    ProviderKind.FILE: AssuranceClass.DECLARED,
    ProviderKind.PKCS11: AssuranceClass.TOKEN,
    ProviderKind.TRANSIT: AssuranceClass.SERVICE,
    ProviderKind.AWSKMS: AssuranceClass.MANAGED,
}
# What another process does: one call, told in JSON, answered in JSON.
OTHER_PROCESS = """
import json, sys
from pathlib import Path
from vault.errors import KeyGone
from vault.rootkeys.opening import open_provider
from policy.assurance import ProviderKind
from vault.rootkeys.provider import KeyContext, Surroundings, TreeNumber

told = json.load(sys.stdin)
surroundings = Surroundings(Path(told["folder"]), told["passphrase"])
provider = open_provider(ProviderKind(told["kind"]), told["options"], surroundings)
tenant, tree, generation = told["context"]
context = KeyContext(bytes.fromhex(tenant), TreeNumber(tree), generation)
if told["act"] == "make":
    answer = provider.make_key(context)
elif told["act"] == "unwrap":
    try:
        answer = provider.unwrap(told["reference"], context, bytes.fromhex(told["wrapped"])).hex()
    except KeyGone:
        answer = "gone"
else:
    answer = getattr(provider, told["act"])(told["reference"]).presence
json.dump(answer, sys.stdout)
"""


@dataclass
class Bench:
    """A provider, and how to open it once more."""

    kind: ProviderKind
    options: dict
    surroundings: Surroundings
    tenant: bytes
    secrets: list

    @property
    def after_destruction(self):
        return Presence.SCHEDULED if self.kind is ProviderKind.AWSKMS else Presence.GONE

    def open(self):
        return open_provider(self.kind, self.options, self.surroundings)

    def context(self, generation=1, tree=TreeNumber.ORDINARY):
        return KeyContext(self.tenant, tree, generation)

    def elsewhere(self, act, context, reference="", wrapped=b""):
        told = {
            "kind": self.kind,
            "options": self.options,
            "folder": str(self.surroundings.folder),
            "passphrase": self.surroundings.passphrase,
            "act": act,
            "context": [context.tenant.hex(), context.tree, context.generation],
            "reference": reference,
            "wrapped": wrapped.hex(),
        }
        done = subprocess.run(
            [sys.executable, "-c", OTHER_PROCESS],
            input=json.dumps(told),
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)


@pytest.fixture(params=ProviderKind)
def bench(request, tmp_path):
    """Each provider in turn, with a tenant of its own."""
    kind, options, secrets = request.param, {}, [PASSPHRASE]
    if kind is ProviderKind.PKCS11:
        options = request.getfixturevalue("softhsm")
        secrets.append(Path(options["pin_file"]).read_text().strip())
    elif kind is ProviderKind.TRANSIT:
        options = request.getfixturevalue("bao").options()
        secrets.append(Path(options["token_file"]).read_text().strip())
    elif kind is ProviderKind.AWSKMS:
        options = request.getfixturevalue("kms").options()
    return Bench(kind, options, Surroundings(tmp_path, PASSPHRASE), os.urandom(16), secrets)


@pytest.fixture
def provider(bench):
    return bench.open()


@pytest.fixture
def epoch_key():
    return os.urandom(EPOCH_KEY_BYTES)


def test_round_trip_with_fresh_nonces(bench, provider, epoch_key):
    reference = provider.make_key(bench.context())
    wrapped = {provider.wrap(reference, bench.context(), epoch_key) for _ in range(5)}
    assert len(wrapped) == 5
    assert {provider.unwrap(reference, bench.context(), one) for one in wrapped} == {epoch_key}
    assert all(epoch_key not in one for one in wrapped)


def test_a_new_instance_and_another_process_open_it(bench, provider, epoch_key):
    reference = provider.make_key(bench.context())
    wrapped = provider.wrap(reference, bench.context(), epoch_key)
    assert bench.open().unwrap(reference, bench.context(), wrapped) == epoch_key
    opened = bench.elsewhere("unwrap", bench.context(), reference, wrapped)
    assert opened == epoch_key.hex()


def test_another_context_does_not_open_it(bench, provider, epoch_key):
    context = bench.context()
    reference = provider.make_key(context)
    wrapped = provider.wrap(reference, context, epoch_key)
    for other in (
        context._replace(tenant=os.urandom(16)),
        context._replace(tree=TreeNumber.PERMANENT),
        context._replace(generation=2),
    ):
        with pytest.raises(Damaged, match=f"epoch key of generation {other.generation} does not"):
            provider.unwrap(reference, other, wrapped)
    assert provider.unwrap(reference, context, wrapped) == epoch_key


def test_another_root_key_does_not_open_it(bench, provider, epoch_key):
    first, second = (provider.make_key(bench.context(generation)) for generation in (1, 2))
    assert first != second
    wrapped = provider.wrap(first, bench.context(), epoch_key)
    with pytest.raises(Damaged):
        provider.unwrap(second, bench.context(), wrapped)


def test_every_changed_byte_is_noticed(bench, provider, epoch_key):
    reference = provider.make_key(bench.context())
    wrapped = provider.wrap(reference, bench.context(), epoch_key)
    for place in range(len(wrapped)):
        changed = bytearray(wrapped)
        changed[place] ^= 1
        with pytest.raises(Damaged):
            provider.unwrap(reference, bench.context(), bytes(changed))


@pytest.mark.parametrize("junk", [b"", b"\0", b"vault:v1:AAAA", b"\xff" * 60, b"x" * 7_000])
def test_other_bytes_do_not_open(bench, provider, junk):
    reference = provider.make_key(bench.context())
    with pytest.raises(Damaged):
        provider.unwrap(reference, bench.context(), junk)


def test_making_a_key_again_finds_it(bench, provider, epoch_key):
    reference = provider.make_key(bench.context())
    wrapped = provider.wrap(reference, bench.context(), epoch_key)
    assert provider.make_key(bench.context()) == reference
    assert bench.open().make_key(bench.context()) == reference
    assert bench.elsewhere("make", bench.context()) == reference
    assert provider.unwrap(reference, bench.context(), wrapped) == epoch_key


def test_generations_and_trees_have_keys_of_their_own(bench, provider):
    references = {
        provider.make_key(bench.context(generation, tree))
        for tree in TreeNumber
        for generation in (1, 2, 3)
    }
    assert len(references) == 6
    assert all(provider.report(one).presence is Presence.PRESENT for one in references)


def test_a_destroyed_key_opens_nothing(bench, provider, epoch_key):
    old, new = (provider.make_key(bench.context(generation)) for generation in (1, 2))
    wrapped = provider.wrap(old, bench.context(), epoch_key)
    kept = provider.wrap(new, bench.context(2), epoch_key)
    assert provider.report(old).presence is Presence.PRESENT

    report = provider.destroy(old)
    assert report.presence is bench.after_destruction
    assert provider.report(old) == report
    for one in (provider, bench.open()):
        with pytest.raises(KeyGone):
            one.unwrap(old, bench.context(), wrapped)
        with pytest.raises(KeyGone):
            one.wrap(old, bench.context(), epoch_key)
        assert one.unwrap(new, bench.context(2), kept) == epoch_key
    assert provider.report(new).presence is Presence.PRESENT


def test_destroying_twice_says_the_same(bench, provider):
    old, _ = (provider.make_key(bench.context(generation)) for generation in (1, 2))
    first = provider.destroy(old)
    assert provider.destroy(old) == first
    assert bench.open().destroy(old) == first
    assert bench.elsewhere("destroy", bench.context(), old) == bench.after_destruction


def test_the_only_key_can_be_destroyed(bench, provider, epoch_key):
    """As a vault does that has moved to another provider."""
    reference = provider.make_key(bench.context())
    wrapped = provider.wrap(reference, bench.context(), epoch_key)
    assert provider.destroy(reference).presence is bench.after_destruction
    with pytest.raises(KeyGone):
        provider.unwrap(reference, bench.context(), wrapped)


def test_another_process_sees_the_destruction(bench, provider, epoch_key):
    old, _ = (provider.make_key(bench.context(generation)) for generation in (1, 2))
    wrapped = provider.wrap(old, bench.context(), epoch_key)
    assert bench.elsewhere("report", bench.context(), old) == Presence.PRESENT
    provider.destroy(old)
    assert bench.elsewhere("report", bench.context(), old) == bench.after_destruction
    assert bench.elsewhere("unwrap", bench.context(), old, wrapped) == "gone"


def test_what_another_process_destroys_is_gone_here(bench, provider, epoch_key):
    old, _ = (provider.make_key(bench.context(generation)) for generation in (1, 2))
    wrapped = provider.wrap(old, bench.context(), epoch_key)
    assert bench.elsewhere("destroy", bench.context(), old) == bench.after_destruction
    assert provider.report(old).presence is bench.after_destruction
    with pytest.raises(KeyGone):
        provider.unwrap(old, bench.context(), wrapped)


def test_permanent_keys_are_not_destroyed(bench, provider, epoch_key):
    if bench.kind is ProviderKind.FILE:
        return  # whoever writes files removes them: only other providers can refuse
    keys = [(bench.context(g, TreeNumber.PERMANENT), os.urandom(32)) for g in (1, 2)]
    made = [(provider.make_key(context), context, key) for context, key in keys]
    wrapped = [provider.wrap(*one) for one in made]
    for (reference, context, key), one in zip(made, wrapped, strict=True):
        with pytest.raises(ProviderDenied):
            provider.destroy(reference)
        assert provider.report(reference).presence is Presence.PRESENT
        assert provider.unwrap(reference, context, one) == key
    assert bench.open().make_key(made[0][1]) == made[0][0]


def test_reports_are_short_and_printable(bench, provider):
    old, new = (provider.make_key(bench.context(generation)) for generation in (1, 2))
    for report in (provider.report(new), provider.destroy(old), provider.report(old)):
        assert 0 < len(report.response) <= 200
        assert report.response.isascii()
        assert report.response.isprintable()
        assert (report.gone_at is not None) == (report.presence is Presence.SCHEDULED)


def test_no_secret_is_shown(bench, provider, epoch_key, caplog):
    caplog.set_level("DEBUG")
    context, other = bench.context(), bench.context(2)
    reference = provider.make_key(context)
    provider.make_key(other)
    wrapped = provider.wrap(reference, context, epoch_key)
    shown = [
        repr(provider),
        str(provider),
        repr(bench.surroundings),
        repr(provider.report(reference)),
    ]
    calls = [
        lambda: provider.unwrap(reference, other, wrapped),
        lambda: provider.unwrap(reference, context, wrapped[:-1]),
        lambda: provider.unwrap("../root.key", context, wrapped),
        lambda: provider.unwrap(reference, context, wrapped),
        lambda: provider.wrap(reference, context, epoch_key),
    ]
    for number, call in enumerate(calls):
        if number == 3:
            provider.destroy(reference)
        with pytest.raises((Damaged, KeyGone)) as caught:
            call()
        shown += [repr(caught.value), str(caught.value)]
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
    # The wire-level log of the AWS library is switched on by nobody who does not want to see it.
    records = [one for one in caplog.records if not one.name.startswith("botocore")]
    shown += [one.getMessage() for one in records]
    secret_bytes = (epoch_key, wrapped)
    texts = [form(one) for one in secret_bytes for form in (repr, bytes.hex, _base64)]
    for secret in bench.secrets + texts:
        assert not any(secret in text for text in shown)


def _base64(raw):
    return base64.b64encode(raw).decode()


def test_kind_and_assurance(bench, provider):
    assert provider.kind is bench.kind
    assert provider.assurance.class_ is CLASSES[bench.kind]
    for sentence in (provider.assurance.en, provider.assurance.nl):
        assert sentence.endswith(".")
        assert len(sentence) > 60


@pytest.mark.parametrize("reference", ["", "x", "../../vault.db", "a:b", "arn:aws:kms:x", "-:1"])
def test_other_references_are_refused(bench, provider, reference):
    if bench.kind is ProviderKind.FILE:
        return  # the names of files are checked with the generations that hold them
    calls = (
        lambda: provider.report(reference),
        lambda: provider.destroy(reference),
        lambda: provider.wrap(reference, bench.context(), bytes(32)),
        lambda: provider.unwrap(reference, bench.context(), bytes(60)),
    )
    for call in calls:
        with pytest.raises(Damaged):
            call()


GOOD = {
    ProviderKind.FILE: {},
    ProviderKind.PKCS11: {"module": "/lib.so", "token": "t", "pin_file": "secret"},
    ProviderKind.TRANSIT: {
        "url": "https://bao.example",
        "token_file": "secret",
        "first_generation": "1",
    },
    ProviderKind.AWSKMS: {
        "region": "eu-west-1",
        "role": "arn:aws:iam::111122223333:role/datakluis",
    },
}


@pytest.fixture
def place(tmp_path):
    (tmp_path / "secret").write_text("s3cret-value\n")
    return Surroundings(tmp_path, PASSPHRASE)


@pytest.mark.parametrize("kind", ProviderKind)
def test_good_options(kind, place):
    check_options(kind, GOOD[kind])
    opened = open_provider(kind, GOOD[kind], place)
    assert opened.kind is kind
    assert "s3cret-value" not in f"{opened!r} {vars(opened)}"


@pytest.mark.parametrize("kind", ProviderKind)
def test_unknown_missing_and_empty_options_are_named(kind, place):
    for option in ("colour", "Module", "passphrase"):
        with pytest.raises(InvalidInput, match=f"provider {kind} has no option {option}"):
            check_options(kind, {**GOOD[kind], option: "x"})
    for option in GOOD[kind]:
        left = {name: value for name, value in GOOD[kind].items() if name != option}
        with pytest.raises(InvalidInput, match=f"provider {kind} needs option {option}"):
            check_options(kind, left)
        with pytest.raises(InvalidInput, match=f"option {option} of provider {kind} is empty"):
            open_provider(kind, {**GOOD[kind], option: ""}, place)


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        (ProviderKind.TRANSIT, "url", "http://bao.example"),
        (ProviderKind.TRANSIT, "url", "https://user:word@bao.example"),
        (ProviderKind.TRANSIT, "url", "https://bao.example/?token=x"),
        (ProviderKind.TRANSIT, "url", "ftp://127.0.0.1"),
        (ProviderKind.TRANSIT, "url", "https://[::1"),
        (ProviderKind.TRANSIT, "url", "bao.example:8200"),
        (ProviderKind.TRANSIT, "url", "https://bao.example:0"),
        (ProviderKind.TRANSIT, "first_generation", "0"),
        (ProviderKind.TRANSIT, "first_generation", "01"),
        (ProviderKind.TRANSIT, "first_generation", " 1"),
        (ProviderKind.TRANSIT, "first_generation", "1_0"),
        (ProviderKind.TRANSIT, "first_generation", "-1"),
        (ProviderKind.TRANSIT, "first_generation", "٣"),
        (ProviderKind.TRANSIT, "first_generation", str(2**56)),
        (ProviderKind.TRANSIT, "timeout_seconds", "0"),
        (ProviderKind.TRANSIT, "timeout_seconds", "1.5"),
        (ProviderKind.TRANSIT, "mount", "../sys"),
        (ProviderKind.TRANSIT, "key", "a/b"),
        (ProviderKind.TRANSIT, "key", "Key"),
        (ProviderKind.AWSKMS, "region", "https://evil.example"),
        (ProviderKind.AWSKMS, "role", "datakluis"),
        (ProviderKind.AWSKMS, "role", 'arn:aws:iam::111122223333:role/"x"'),
        (ProviderKind.AWSKMS, "endpoint", "http://kms.example"),
        (ProviderKind.AWSKMS, "window_days", "6"),
        (ProviderKind.AWSKMS, "window_days", "31"),
        (ProviderKind.AWSKMS, "alias_prefix", "aws/x"),
        (ProviderKind.AWSKMS, "alias_prefix", "x y"),
    ],
)
def test_unusable_options_are_named(kind, option, value, place):
    with pytest.raises(InvalidInput, match=f"option {option} ") as caught:
        open_provider(kind, {**GOOD[kind], option: value}, place)
    assert "word" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8200/", "http://localhost", "http://[::1]:8200"])
def test_plain_http_stays_on_this_machine(url, place):
    opened = open_provider(ProviderKind.TRANSIT, {**GOOD[ProviderKind.TRANSIT], "url": url}, place)
    assert url.rstrip("/") in repr(opened)


@pytest.mark.parametrize("kind", [ProviderKind.PKCS11, ProviderKind.TRANSIT])
def test_a_missing_file_is_named(kind, place):
    (place.folder / "secret").unlink()
    with pytest.raises(
        ConfigurationError, match=r"option (pin|token)_file: .*secret is not a file"
    ):
        open_provider(kind, GOOD[kind], place)


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb\n", b"\xffsecret", b"tab\t", b"x" * 5_000])
@pytest.mark.parametrize("kind", [ProviderKind.PKCS11, ProviderKind.TRANSIT])
def test_a_secret_is_one_printable_line(kind, content, place):
    opened = open_provider(kind, GOOD[kind], place)
    (place.folder / "secret").write_bytes(content)
    with pytest.raises(ConfigurationError, match="one line of printable ASCII") as caught:
        opened.make_key(KeyContext(bytes(16), TreeNumber.ORDINARY, 1))
    assert "secret" not in str(caught.value).replace(str(place.folder / "secret"), "")


@pytest.mark.parametrize(
    ("kind", "library"),
    [(ProviderKind.PKCS11, "pkcs11"), (ProviderKind.TRANSIT, "hvac.api.secrets_engines")],
)
def test_a_missing_library_is_named(kind, library, place, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigurationError, match=rf"pip install 'datakluis\[{kind}\]'"):
        open_provider(kind, GOOD[kind], place)


def test_providers_load_their_libraries_when_they_are_opened():
    code = (
        "import sys, vault.rootkeys.opening, vault.rootkeys.transit, vault.rootkeys.pkcs11;"
        "print([one for one in ('boto3', 'hvac', 'pkcs11', 'requests') if one in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
