"""What was erased does not open from any copy, with any key that still exists (P2).

Records with unique texts are planted, corrected and erased over several epochs, and after every
step all stores are copied. In the end the adversary (tests/vault/adversary.py) gets all copies at
once. The controls give it more than there should be, and show that the certificates name exactly
what that opens.
"""

from __future__ import annotations

import collections
import functools
import json
import os
import random
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import adversary
import pytest
from adversary import Copies, Reached, pieces
from guarantees_scan import spellings
from guarantees_vault import CATEGORY, GROUND, PASSPHRASE, chosen_seed, new_vault, open_vault

from policy.assurance import AssuranceClass, Presence, ProviderKind
from policy.certificate import Certificate, SignedCertificate
from policy.certificate_parts import Irrecoverability, Status, Tree
from vault import KeyGone, NewPlace, NewRecord, Vault, keyfile
from vault.rootkeys.pkcs11 import Pkcs11RootKeys
from vault.rootkeys.provider import KeyContext, Surroundings, TreeNumber

# Every planted text begins alike, so that the scan looks for all of them at once.
MARK = "canary of the adversary"
OPERATOR = "J. de Vries"
EPOCHS = 3


@dataclass
class Canary:
    """One planted text.

    Attributes:
        text: unique.
        subject: whom its record is about.
        pointer: of its record.
        group: field group in which it lies; None for the record itself.
        is_kept: whether a duty or its tree keeps it from being erased.
    """

    text: bytes
    subject: str
    pointer: str
    group: str | None = None
    is_kept: bool = False


@dataclass
class Snapshot:
    """What was true when all stores were copied."""

    folder: Path
    generation: int
    living: set[bytes]


@dataclass
class Story:
    """A vault in which canaries live and die, and every copy that was made of its stores.

    Attributes:
        root: folder of everything.
        vault: the vault, open.
        dice: which canaries are erased.
        canaries: all that may be erased or are counted as living, by text.
        unseen: erased before anything was copied.
        erased: texts.
        copies: in order.
    """

    root: Path
    vault: Vault
    dice: random.Random
    canaries: dict[bytes, Canary] = field(default_factory=dict)
    unseen: dict[bytes, Canary] = field(default_factory=dict)
    erased: set[bytes] = field(default_factory=set)
    copies: list[Snapshot] = field(default_factory=list)

    @property
    def living(self) -> set[bytes]:
        return self.canaries.keys() - self.erased

    def copy(self) -> None:
        """Copy every store as it is now."""
        number = len(self.copies)
        folder = self.root / f"copy-{number:04}"
        folder.mkdir()
        shutil.copytree(self.vault.folder, folder / "vault")
        if number % 3 == 0:
            self.vault.backup_data(folder / "data.kluis")
        before = self.copies[-1].folder / "keys.kluis" if number % 10 else None
        self.vault.backup_keys(folder / "keys.kluis", since=before)
        if self.canaries:
            pointer = self.dice.choice([one.pointer for one in self.canaries.values()])
            (folder / "evidence.json").write_bytes(self.vault.prove(pointer).format())
        if number % 10 == 0:
            self.vault.export_ledger(folder / "ledger")
        generation = max(
            one.generation.number
            for one in self.vault.root_keys()
            if one.generation.tree is TreeNumber.ORDINARY and one.generation.closed_at is None
        )
        self.copies.append(Snapshot(folder, generation, self.living))

    def put(self, subject: str, category: str = CATEGORY, group: str | None = None) -> Canary:
        """Plant a canary."""
        text = f"{MARK} {secrets.token_hex(16)}".encode()
        payload = b"nothing in particular" if group else text
        pointer = self.vault.put(
            payload, category=category, subject=subject, groups={group: text} if group else None
        )
        return Canary(text, subject, pointer, group, is_kept=category == "organisatie")

    def plant(self, subject: str, category: str = CATEGORY, group: str | None = None) -> None:
        """Plant a canary that is counted."""
        canary = self.put(subject, category, group)
        self.canaries[canary.text] = canary

    def fill(self, count: int) -> None:
        """Put records among the canaries, so that those lie in several leaves of the key tree."""
        records = [NewRecord(b"filler", f"filler {self.dice.random()}") for _ in range(count)]
        self.vault.put_many(records, category=CATEGORY)

    def rectify(self) -> None:
        """Correct some record; the canary is in the older version and in the new one."""
        text = self.dice.choice([one for one in self.living if not self.canaries[one].group])
        self.vault.rectify(self.canaries[text].pointer, text + b", corrected")

    def erase(self, most: int) -> int:
        """Erase a canary, or all of a person, and return how many that were."""
        choice = [self.canaries[text] for text in sorted(self.living)]
        choice = [one for one in choice if not one.is_kept]
        one = self.dice.choice(choice)
        same = [other for other in choice if other.subject == one.subject]
        if one.group is not None:
            self.vault.erase_group(one.pointer, one.group, GROUND)
            gone = [one]
        elif len(same) <= most and self.dice.random() < 0.3:
            assert self.vault.erase_person(one.subject, GROUND).is_complete
            gone = same
        else:
            self.vault.erase(one.pointer, GROUND)
            gone = [one]
        self.erased |= {other.text for other in gone}
        return len(gone)

    def certificate(self, canary: Canary) -> Certificate:
        """Return what the newest certificate says, parsed from its file."""
        signed = self.vault.certificate(canary.pointer, group=canary.group)
        return SignedCertificate.parse(signed.format()).certificate

    def listed(self, canary: Canary) -> set[int]:
        """Return the generations that a certificate names."""
        return {one.number for one in self.certificate(canary).generations}

    def key_files(self) -> dict[str, Path]:
        """Return a copy of each root key file that ever was: the provider's own backup."""
        copied = (copy.folder / "vault" / "keys" for copy in self.copies)
        return {path.name: path for folder in copied for path in folder.glob("*.key")}

    def everything(self) -> Copies:
        """Give the adversary all copies and the live files."""
        taken = Copies()
        for copy in self.copies:
            for path in (copy.folder / "vault" / "vault.db", *copy.folder.glob("*.kluis")):
                taken.take(path)
        taken.take(self.vault.folder / "vault.db")
        return taken


def tell(story: Story, epochs: int, puts: int, erasures: int) -> None:
    """Fill a vault and erase in it, with a copy after every step.

    Args:
        story: begins.
        epochs: how often the epoch is closed.
        puts: canaries in all, a multiple of ten times the epochs.
        erasures: of these.
    """
    quota = [erasures // epochs + (epoch < erasures % epochs) for epoch in range(epochs)]
    for epoch in range(epochs):
        for number in range(puts // epochs + (epoch < puts % epochs)):
            if number % 25 == 7:
                story.plant(f"council {number}", "organisatie")
            elif number % 12 == 3:
                story.plant(f"parent {epoch}-{number}", "kindpakket", "contact")
            else:
                story.plant(f"person {story.dice.randrange(puts // 2)}")
            if number % 10 == 9:
                story.copy()
        # Behind the first canaries, which so lie in the leaf that the epoch before had begun.
        story.fill(90)
        for _ in range(4):
            story.rectify()
            story.copy()
        # What is never copied while it lives is in no copy, whatever its certificate names.
        canary = story.put("passer-by")
        story.vault.erase(canary.pointer, GROUND)
        story.unseen[canary.text] = canary
        left = quota[epoch]
        while left:
            left -= story.erase(left)
            story.copy()
        story.vault.shred()
        story.copy()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    yield from told(tmp_path_factory.mktemp("canaries"), EPOCHS, 200, 100)


def told(root: Path, epochs: int, puts: int, erasures: int) -> Iterator[Story]:
    seed = chosen_seed()
    print(f"\nDATAKLUIS_SEED={seed}")
    with patch.multiple(keyfile, _MEMORY_KIB=8 * 4, _ITERATIONS=1, _LANES=4):
        new_vault(root / "vault")
        with open_vault(root / "vault") as vault:
            story = Story(root, vault, random.Random(seed))
            tell(story, epochs, puts, erasures)
            assert (len(story.canaries), len(story.erased)) == (puts, erasures)
            yield story
    # Half a gigabyte, of which pytest would keep that of three runs.
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def copies(story: Story) -> Copies:
    return story.everything()


def live_keys(story: Story) -> dict[str, list[bytes]]:
    """Return the root keys that still exist."""
    return adversary.root_keys((story.vault.folder / "keys").glob("*.key"), PASSPHRASE)


def reached_with(story: Story, copies: Copies, more: Iterable[Path] = ()) -> Reached:
    """Return what opens with the root keys that still exist and some more."""
    keys = live_keys(story) | adversary.root_keys(more, PASSPHRASE)
    return adversary.reach(copies, adversary.unwrapped(copies, keys))


def opened_of(story: Story, reached: Reached) -> tuple[set[bytes], set[bytes]]:
    """Return which erased and which living canaries opened."""
    return reached.opened(story.erased), reached.opened(story.living)


def subjects_of(story: Story, texts: Iterable[bytes]) -> set[str]:
    return {story.canaries[text].subject for text in texts}


def people_gone(story: Story) -> set[str]:
    """Return who has no record left; where a field group alone went, the record is still there."""
    records = {text for text in story.erased if story.canaries[text].group is None}
    return subjects_of(story, records) - subjects_of(story, story.living)


def named_by(reached: Reached) -> set[str]:
    """Return whom the subject index names, as far as it opened."""
    return {subject.decode() for subject in reached.subjects.values()}


def file_count(story: Story) -> int:
    return sum(path.is_file() for path in story.root.rglob("*"))


def test_nothing_erased_opens_from_any_copy_with_any_key_that_exists(
    story: Story, copies: Copies
) -> None:
    reached = reached_with(story, copies)
    erased, living = opened_of(story, reached)
    gone, named = people_gone(story), named_by(reached)
    print(
        f"\n{len(erased)} of {len(story.erased)} erased decrypt from {len(story.copies)} copies of"
        f" every store and the live files; {len(living)} of {len(story.living)} living do;"
        f" {len(gone & named)} of {len(gone)} erased people are named by an old index"
        f" ({file_count(story)} files, {sum(map(len, copies.nodes.values()))} sealed nodes,"
        f" {reached.nodes} of them open, {reached.tried} decryptions tried)"
    )
    assert erased == set()
    assert living == story.living
    assert gone
    assert not gone & named
    assert subjects_of(story, story.living) <= named
    assert not reached.opened(story.unseen)


def marks_in(some: Iterable[bytes]) -> int:
    """Return how often a planted text lies in some bytes, in any usual encoding."""
    return sum(spelling in piece for piece in some for spelling in spellings_of_mark())


@functools.cache
def spellings_of_mark() -> set[bytes]:
    return spellings(MARK)


def test_no_byte_of_any_copy_holds_a_planted_text(story: Story, tmp_path: Path) -> None:
    paths = [path for path in story.root.rglob("*") if path.is_file()]
    size, distinct = sum(path.stat().st_size for path in paths), pieces(paths)
    found = marks_in(distinct)
    print(
        f"\n{len(paths)} files of {size >> 20} MiB, {sum(map(len, distinct)) >> 20} MiB of"
        f" different bytes: {found} planted texts"
    )
    assert found == 0
    kinds = {path.name for path in paths}
    wanted = {"vault.db", "vault.db-wal", "data.kluis", "keys.kluis", "evidence.json", "checkpoint"}
    assert wanted <= kinds
    plain = tmp_path / "plain"
    plain.write_bytes(bytes(4_090) + next(iter(story.erased)))
    assert marks_in(pieces([plain])) == 1, "control"


def expected_with(story: Story, generation: int) -> set[bytes]:
    """Return what the certificates say that a generation's root key opens, where it was copied."""
    return {
        text
        for text in story.erased
        if generation in story.listed(story.canaries[text])
        and any(copy.generation == generation and text in copy.living for copy in story.copies)
    }


@pytest.mark.parametrize("generation", range(1, EPOCHS + 1))
def test_control_one_old_root_key_opens_what_the_certificates_name(
    story: Story, copies: Copies, generation: int
) -> None:
    kept = story.key_files()[f"root-{generation}.key"]
    erased, living = opened_of(story, reached_with(story, copies, [kept]))
    expected = expected_with(story, generation)
    print(
        f"\ncontrol: with the root key of generation {generation} kept, {len(erased)} of"
        f" {len(story.erased)} erased decrypt; the certificates name {len(expected)}"
    )
    assert erased == expected
    assert 0 < len(erased) < len(story.erased)
    assert living == story.living


@pytest.mark.parametrize("generation", range(1, EPOCHS + 1))
def test_control_one_old_root_key_names_whom_the_certificates_admit(
    story: Story, copies: Copies, generation: int
) -> None:
    kept = story.key_files()[f"root-{generation}.key"]
    gone = people_gone(story)
    named = named_by(reached_with(story, copies, [kept])) & gone
    at_least = subjects_of(story, expected_with(story, generation)) & gone
    # The keys of the index are shared, so a certificate may name more than the record lay under.
    listing = {text for text in story.erased if generation in story.listed(story.canaries[text])}
    print(
        f"\ncontrol: with the root key of generation {generation} kept, an old index names"
        f" {len(named)} of {len(gone)} erased people"
    )
    assert at_least <= named
    assert named - subjects_of(story, listing) == set()


def test_control_the_providers_own_backup_opens_everything(story: Story, copies: Copies) -> None:
    reached = reached_with(story, copies, story.key_files().values())
    erased, living = opened_of(story, reached)
    print(
        f"\ncontrol: with the whole folder of root keys restored, {len(erased)} of"
        f" {len(story.erased)} erased decrypt and {len(living)} of {len(story.living)} living"
    )
    assert erased == story.erased
    assert living == story.living
    assert not reached.opened(story.unseen), "what was never copied is in no copy"


def test_the_certificates_say_that_copies_of_key_files_are_not_tested(story: Story) -> None:
    canaries = [story.canaries[text] for text in story.erased] + list(story.unseen.values())
    before = [story.certificate(canary) for canary in canaries]
    counts = collections.Counter(len(one.generations) for one in before)
    assert {one.status for one in before} == {Status.ERASED}
    assert {one.irrecoverability for one in before} == {Irrecoverability.NOT_DECLARED}
    assert story.vault.declare_no_copies(OPERATOR) == EPOCHS
    after = [story.certificate(canary) for canary in canaries]
    print(f"\n{len(after)} certificates, by how many generations they name: {dict(counts)}")
    assert {one.status for one in after} == {Status.IRRECOVERABLE}
    assert set(counts) == set(range(1, EPOCHS + 1)), "some lay under one generation, some under all"
    for certificate in after:
        numbers = [one.number for one in certificate.generations]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        for one in certificate.generations:
            assert (one.tree, one.provider) == (Tree.ORDINARY, ProviderKind.FILE)
            assert one.reference == f"root-{one.number}.key"
            assert one.presence is Presence.GONE
            assert one.assurance.class_ is AssuranceClass.DECLARED
            assert "declared by the operator, not tested" in one.assurance.en
            assert "niet getoetst" in one.assurance.nl
            assert one.declaration is not None
            assert one.declaration.name == OPERATOR


@pytest.mark.soak
def test_nothing_erased_opens_from_any_copy_of_a_longer_life(tmp_path: Path) -> None:
    for story in told(tmp_path, 6, 420, 240):
        copies = story.everything()
        erased, living = opened_of(story, reached_with(story, copies))
        print(
            f"\n{len(erased)} of {len(story.erased)} erased decrypt from {len(story.copies)}"
            f" copies; {len(living)} of {len(story.living)} living do"
        )
        assert erased == set()
        assert living == story.living
        for generation in range(1, 7):
            kept = story.key_files()[f"root-{generation}.key"]
            opened, _ = opened_of(story, reached_with(story, copies, [kept]))
            print(f"control: with the root key of generation {generation} kept, {len(opened)}")
            assert opened == expected_with(story, generation)
        everything = reached_with(story, copies, story.key_files().values())
        assert opened_of(story, everything) == (story.erased, story.living)


UNWRAP = """
import json, sys
from pathlib import Path
from vault.errors import KeyGone
from vault.rootkeys.pkcs11 import Pkcs11RootKeys
from vault.rootkeys.provider import KeyContext, Surroundings, TreeNumber
for options, reference, tenant, tree, generation, wrapped in json.load(sys.stdin):
    provider = Pkcs11RootKeys(options, Surroundings(Path("."), "unused"))
    context = KeyContext(bytes.fromhex(tenant), TreeNumber(tree), generation)
    try:
        print(generation, provider.unwrap(reference, context, bytes.fromhex(wrapped)).hex())
    except KeyGone:
        pass
"""


def in_token(copies: Copies) -> list[adversary.Wrapped]:
    """Return the epoch keys that the token has wrapped, in the order of their generations."""
    found = [one for one in copies.wrapped if one.kind == "pkcs11"]
    return sorted(found, key=lambda one: one.generation)


def tokens_folder() -> Path:
    return Path(os.environ["SOFTHSM2_CONF"]).parent / "tokens"


def unwrapped_by_a_copy(copies: Copies, tokens: Path) -> dict[tuple[int, int], set[bytes]]:
    """Return the epoch keys that a restored token unwraps, in a process that knows no other."""
    configuration = tokens.with_suffix(".conf")
    configuration.write_text(f"directories.tokendir = {tokens}\n")
    (tenant,) = copies.tenants
    wanted = [
        (json.loads(one.options), one.reference, tenant.hex(), one.tree, one.generation,
         one.blob.hex())
        for one in in_token(copies)
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", UNWRAP],
        input=json.dumps(wanted),
        env={**os.environ, "SOFTHSM2_CONF": str(configuration)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    return {(0, int(generation)): {bytes.fromhex(key)} for generation, key in lines}


def unwrapped_by_the_token(copies: Copies) -> dict[tuple[int, int], set[bytes]]:
    """Return the epoch keys that the token still unwraps."""
    (tenant,) = copies.tenants
    found: dict[tuple[int, int], set[bytes]] = {}
    for one in in_token(copies):
        provider = Pkcs11RootKeys(json.loads(one.options), Surroundings(Path(), "unused"))
        context = KeyContext(tenant, TreeNumber(one.tree), one.generation)
        try:
            found[one.tree, one.generation] = {provider.unwrap(one.reference, context, one.blob)}
        except KeyGone:
            continue
    return found


def test_nothing_erased_opens_once_a_token_destroyed_its_keys(
    softhsm: dict[str, str], tmp_path: Path
) -> None:
    new_vault(tmp_path / "vault")
    with open_vault(tmp_path / "vault") as vault:
        story = Story(tmp_path, vault, random.Random(chosen_seed()))
        for number in range(8):
            story.plant(f"person {number % 5}")
        story.copy()
        vault.move_root_keys(NewPlace(ProviderKind.PKCS11, softhsm))
        for first, last in ((8, 15), (15, 20)):
            for number in range(first, last):
                story.plant(f"person {number % 5}")
            story.copy()
            backup = shutil.copytree(tokens_folder(), tmp_path / f"tokens-{last}")
            while len(story.erased) < last // 2:
                story.erase(1)
                story.copy()
            vault.shred()
            story.copy()
        copies = story.everything()
        in_files = adversary.unwrapped(copies, live_keys(story))
        now = unwrapped_by_the_token(copies)
        erased, living = opened_of(story, adversary.reach(copies, in_files | now))
        print(
            f"\ntoken: {len(erased)} of {len(story.erased)} erased decrypt from"
            f" {len(story.copies)} copies; {len(living)} of {len(story.living)} living do"
        )
        assert set(now) == {(0, 4)}, "the token has the key of the open generation alone"
        assert (erased, living) == (set(), story.living)
        assert len(story.erased) == 10
        for text in story.erased:
            of_token = [
                one
                for one in story.certificate(story.canaries[text]).generations
                if one.provider is ProviderKind.PKCS11
            ]
            assert of_token
            for one in of_token:
                assert one.assurance.class_ is AssuranceClass.TOKEN
                assert "cloned the token or copied its storage" in one.assurance.en
        check_restored_token(story, copies, in_files, backup)


def check_restored_token(
    story: Story, copies: Copies, in_files: dict[tuple[int, int], set[bytes]], backup: Path
) -> None:
    """Control: the storage of the token as it was copied before the last destruction."""
    expected = expected_with(story, 3)
    restored = unwrapped_by_a_copy(copies, backup)
    assert set(restored) == {(0, 3)}, "the newer key was not made yet, the older one was destroyed"
    erased, _ = opened_of(story, adversary.reach(copies, in_files | restored))
    print(
        f"control: with the token's storage of then, {len(erased)} of {len(story.erased)} erased"
        f" decrypt; the certificates name {len(expected)}"
    )
    assert erased == expected
    assert erased
