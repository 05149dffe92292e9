"""The configuration: what it says, and that nothing in it is silently ignored.

Rows: ST1 (each category resolves to a list code), PU1 (registered purposes).
"""

import shutil
from importlib import resources

import pytest

from policy import Afleidingswijze
from vault import ConfigurationError, InvalidInput, PurposeRefused, Vault
from vault.config import checked_actor, load_config

TEMPLATE = resources.files("vault").joinpath("template.toml").read_text(encoding="utf-8")


@pytest.fixture
def load(tmp_path):
    def write_and_load(text):
        (tmp_path / "datakluis.toml").write_text(text, encoding="utf-8")
        return load_config(tmp_path)

    return write_and_load


def changed(old, new):
    assert TEMPLATE.count(old) >= 1
    return TEMPLATE.replace(old, new, 1)


def test_the_template_says_what_the_vault_does(load):
    config = load(TEMPLATE)
    assert (config.actor, config.purpose) == ("beheer", "inzage")
    assert list(config.purposes) == ["inzage"]
    assert str(config.local_anchor) == "anchors/local-anchor"
    assert (config.shred_within_days, config.key_backup_days) == (30, None)
    codes = {
        name: (category.list_code, category.afleidingswijze)
        for name, category in config.categories.items()
    }
    assert codes == {
        "kindpakket": ("8.1.7", Afleidingswijze.EIGENSCHAP),
        "wmo": ("8.1.1", Afleidingswijze.AFGEHANDELD),
        "organisatie": ("1.1.1", None),
        "nieuwsbrief": (None, None),
    }


def test_the_comments_of_the_template_are_true(load):
    # ST1: list version, procestype, resultaat and waardering are behind each code.
    config = load(TEMPLATE)
    for name, years in (("kindpakket", 7), ("wmo", 15)):
        result = config.category(name).result
        assert (result.procestype, result.resultaat) == ("Voorzieningen verstrekken", "Verstrekt")
        assert str(result.bewaartermijn) == f"P{years}Y"
    assert config.category("organisatie").is_permanent
    assert config.category("nieuwsbrief").result is None


def test_a_new_vault_starts_with_the_template(vault_folder):
    assert (vault_folder / "datakluis.toml").read_text(encoding="utf-8") == TEMPLATE


UNKNOWN = {
    "a table": (TEMPLATE + "\n[anker]\n", "the file has an unknown key 'anker'"),
    "a key of the file": ("x = 1\n" + TEMPLATE, "the file has an unknown key 'x'"),
    "a key of [defaults]": (
        changed("[defaults]\n", '[defaults]\nactr = "x"\n'),
        r"\[defaults\] has an unknown key 'actr'",
    ),
    "a key of a purpose": (
        changed("[purposes.inzage]\n", "[purposes.inzage]\nuri = 1\n"),
        r"\[purposes.inzage\] has an unknown key 'uri'",
    ),
    "a key of a category": (
        changed("[categories.nieuwsbrief] ", "[categories.nieuwsbrief]\nlijst = 1 "),
        "category nieuwsbrief, key 'lijst': unknown key",
    ),
    "an anchor": (TEMPLATE + "\n[anchors.bitcoin]\n", "unknown key 'bitcoin'"),
    "a key of an anchor": (
        changed("[anchors.local]\n", "[anchors.local]\nurl = 'x'\n"),
        r"\[anchors.local\] has an unknown key 'ur",
    ),
    "a key of erasure": (TEMPLATE + "\nshred = 1\n", r"\[erasure\] has an unknown key 'shred'"),
}


@pytest.mark.parametrize(("text", "message"), UNKNOWN.values(), ids=UNKNOWN)
def test_every_unknown_key_is_named(load, text, message):
    with pytest.raises(ConfigurationError, match=f"datakluis.toml: .*{message}"):
        load(text)


WRONG = {
    "no [defaults]": (TEMPLATE.replace("[defaults]", "[purposes.default]"), r"\[defaults\] is mis"),
    "no actor": (changed('actor = "beheer"', ""), r"\[defaults\] needs a text 'actor'"),
    "an empty actor": (changed('"beheer"', '""'), r"\[defaults\] needs a text 'actor'"),
    "a number as actor": (changed('"beheer"', "7"), r"\[defaults\] needs a text 'actor'"),
    "control characters in the actor": (changed('"beheer"', r'"a\u0007"'), "an actor is 1 to 128"),
    "an actor of 129 bytes": (changed("beheer", "x" * 129), "an actor is 1 to 128 bytes"),
    "a default purpose that is none": (
        changed('purpose = "inzage"', 'purpose = "x"'),
        r"\[defaults\] purpose 'x' is not registered",
    ),
    "no purposes": (
        TEMPLATE[: TEMPLATE.index("[purposes.inzage]")]
        + TEMPLATE[TEMPLATE.index("[categories.kind") :],
        r"table \[purposes\] is missing",
    ),
    "a purpose without a description": (
        changed("description =", "# description ="),
        r"\[purposes.inzage\] needs a text 'description'",
    ),
    "a purpose that is no table": (
        changed("[purposes.inzage]\ndescription", "[purposes]\ninzage"),
        r"table \[inzage\] is missing",
    ),
    "a category for a purpose that is none": (
        changed('purposes = ["inzage"]', 'purposes = ["inzage", "onderzoek"]'),
        r"\[categories.kindpakket\] allows purpose 'onderzoek', which is not registered",
    ),
    "a category without purposes": (
        changed('purposes = ["inzage"]', "purposes = []"),
        "category kindpakket, key 'purposes'",
    ),
    "a code that the list has not": (changed("8.1.7", "8.1.99"), "has no result '8.1.99'"),
    "a list that is not carried": (changed('"2020"', '"2017"'), "\"2020\" is expected, not '2017'"),
    "an afleidingswijze that does not fit": (
        changed('"eigenschap"', '"afgehandeld"'),
        "category kindpakket, key 'afleidingswijze'",
    ),
    "no [anchors.local]": (
        TEMPLATE[: TEMPLATE.index("[anchors.local]")] + "[anchors]\n",
        r"table \[local\] is missing",
    ),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_what_is_missing_or_does_not_fit_is_named(load, text, message):
    with pytest.raises(ConfigurationError, match=f"datakluis.toml: .*{message}"):
        load(text)


@pytest.mark.parametrize(
    "path", ["/etc/x", "../x", "anchors/../../x", "a/..", "vault.db", "keys/root.key", "anchors"]
)
def test_the_local_anchor_lies_inside_the_folder(load, path):
    with pytest.raises(ConfigurationError, match="must lie in the vault's folder anchors"):
        load(changed("anchors/local-anchor", path))
    assert load(changed("anchors/local-anchor", "anchors/b..c")).local_anchor.name == "b..c"


@pytest.mark.parametrize("content", [b"\xff", b"[", b"a = 1\na = 2\n", b"\xef\xbb\xbfx = 1"])
def test_a_file_that_is_no_toml_cannot_be_read(tmp_path, content):
    (tmp_path / "datakluis.toml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"datakluis\.toml cannot be read"):
        load_config(tmp_path)


def test_a_folder_without_one_is_no_vault(tmp_path, passphrase):
    with pytest.raises(ConfigurationError, match="is not a vault; make one with 'kluis init DIR'"):
        Vault.open(tmp_path, passphrase)
    (tmp_path / "datakluis.toml").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_config(tmp_path)


def test_a_wrong_configuration_is_found_before_any_key_is_opened(vault_folder):
    path = vault_folder / "datakluis.toml"
    path.write_text(changed("[defaults]\n", "[defaults]\nx = 1\n"))
    shutil.rmtree(vault_folder / "keys")
    with pytest.raises(ConfigurationError, match="unknown key 'x'"):
        Vault.open(vault_folder, "whatever")


def test_categories_and_purposes_by_name(load):
    config = load(TEMPLATE)
    assert config.category("wmo").name == "wmo"
    with pytest.raises(
        InvalidInput,
        match="not configured; configured are: kindpakket, nieuwsbrief, organisatie, wmo",
    ):
        config.category("wm")
    assert config.registered(None) == config.registered("inzage") == "inzage"
    for purpose in ("onderzoek", "", "Inzage"):
        with pytest.raises(PurposeRefused, match="is not registered; registered are: inzage"):
            config.registered(purpose)


@pytest.mark.parametrize("actor", ["", "x" * 129, "é" * 65, "a\nb", "a\0", "\x1b[31m", "a\udcff"])
def test_an_actor_is_printable_text_of_1_to_128_bytes(actor):
    with pytest.raises(InvalidInput, match="an actor is 1 to 128 bytes of printable text"):
        checked_actor(actor)
    for good in ("x", "x" * 128, "é" * 64, "Zoë de Vries"):
        assert checked_actor(good) == good
