"""Categories: read strictly (ST1, ST4), resolved by the record's own date (ST2)."""

import datetime as dt
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy import (
    Afleidingswijze,
    InvalidPolicy,
    ListNotCarried,
    PolicyError,
    RecordCategory,
    RetentionRule,
    Waardering,
    list_2020,
    parse_categories,
    retention_rule,
)

EXAMPLE = """
[categories.kindpakket]
selectielijst = "2020"
resultaat = "8.1.7"
afleidingswijze = "eigenschap"
purposes = ["inzage", "controle"]
groups = ["contact", "foto"]

[categories.gemeentewapen]
selectielijst = "2020"
resultaat = "1.1.2"
purposes = ["inzage"]

[categories.nieuwsbrief]
purposes = ["inzage"]
"""


def categories():
    return parse_categories(tomllib.loads(EXAMPLE))


def test_the_example_reads_as_written():
    assert categories() == {
        "kindpakket": RecordCategory(
            "kindpakket",
            frozenset({"inzage", "controle"}),
            "8.1.7",
            Afleidingswijze.EIGENSCHAP,
            ("contact", "foto"),
        ),
        "gemeentewapen": RecordCategory("gemeentewapen", frozenset({"inzage"}), "1.1.2"),
        "nieuwsbrief": RecordCategory("nieuwsbrief", frozenset({"inzage"})),
    }
    assert list(categories()) == ["kindpakket", "gemeentewapen", "nieuwsbrief"]


def test_a_category_with_a_code_resolves_in_full():
    """ST1: list version, procestype, resultaat, waardering, for every code that can be used."""
    resolved = 0
    for code, result in list_2020().results.items():
        for afleidingswijze in ("afgehandeld", "eigenschap", None):
            table = {"selectielijst": "2020", "resultaat": code, "purposes": ["inzage"]}
            if afleidingswijze:
                table["afleidingswijze"] = afleidingswijze
            try:
                category = parse_categories({"categories": {"proef": table}})["proef"]
            except InvalidPolicy:
                continue
            resolved += 1
            rule = retention_rule(category, dt.date(2024, 5, 1))
            assert category.result == rule.result == result
            assert rule.list_version == "2020"
            assert rule.afleidingswijze == afleidingswijze
            assert rule.result.procestype
            assert rule.result.resultaat
            assert rule.result.waardering in Waardering
    print(f"ST1: {resolved} categories resolved")
    assert resolved == 346 - 2 - 1  # two are vervallen; 15.1.1 needs an afleidingswijze not carried


def test_what_is_kept_for_ever():
    assert [name for name, category in categories().items() if category.is_permanent] == [
        "gemeentewapen"
    ]


def test_the_rule_follows_the_date_of_the_record():
    """ST2: on the boundary, one day apart."""
    kindpakket = categories()["kindpakket"]
    rule = retention_rule(kindpakket, dt.date(2020, 1, 1))
    assert rule == RetentionRule("2020", list_2020().result("8.1.7"), Afleidingswijze.EIGENSCHAP)
    with pytest.raises(ListNotCarried, match="2017"):
        retention_rule(kindpakket, dt.date(2019, 12, 31))


def test_without_a_code_there_is_no_duty_at_any_date():
    nieuwsbrief = categories()["nieuwsbrief"]
    assert nieuwsbrief.result is None
    assert not nieuwsbrief.is_permanent
    assert retention_rule(nieuwsbrief, dt.date(1990, 1, 1)) is None


def test_a_rule_cannot_be_made_around_the_checks():
    results = list_2020().results
    with pytest.raises(InvalidPolicy, match="not in force"):
        RetentionRule("2020", results["19.1.13"], None)
    with pytest.raises(InvalidPolicy, match="does not fit"):
        RetentionRule("2020", results["8.1.7"], Afleidingswijze.AFGEHANDELD)
    with pytest.raises(InvalidPolicy, match="is missing"):
        RetentionRule("2020", results["8.1.7"], None)


GOOD = {
    "selectielijst": "2020",
    "resultaat": "8.1.7",
    "afleidingswijze": "eigenschap",
    "purposes": ["inzage"],
}


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"bewaartermijn": "P1Y"}, "bewaartermijn"),
        ({"Resultaat": "8.1.7"}, "Resultaat"),
        ({"selectielijst": None}, "selectielijst"),
        ({"selectielijst": "2017"}, "selectielijst"),
        ({"selectielijst": 2020}, "selectielijst"),
        ({"resultaat": None}, "selectielijst"),
        ({"resultaat": None, "selectielijst": None}, "afleidingswijze"),
        ({"resultaat": 8.1}, "resultaat"),
        ({"resultaat": ""}, "resultaat"),
        ({"resultaat": "8.1.77"}, "resultaat"),
        ({"resultaat": "7.1.20", "afleidingswijze": "afgehandeld"}, "resultaat"),
        ({"afleidingswijze": None}, "afleidingswijze"),
        ({"afleidingswijze": "termijn"}, "afleidingswijze"),
        ({"afleidingswijze": "Eigenschap"}, "afleidingswijze"),
        ({"afleidingswijze": ["eigenschap"]}, "afleidingswijze"),
        ({"afleidingswijze": "afgehandeld"}, "afleidingswijze"),
        ({"resultaat": "1.1"}, "afleidingswijze"),
        ({"resultaat": "1.1.2"}, "afleidingswijze"),
        ({"resultaat": "15.1.1"}, "afleidingswijze"),
        ({"purposes": None}, "purposes"),
        ({"purposes": []}, "purposes"),
        ({"purposes": "inzage"}, "purposes"),
        ({"purposes": [1]}, "purposes"),
        ({"purposes": ["Inzage"]}, "purposes"),
        ({"purposes": ["inzage", "inzage"]}, "purposes"),
        ({"groups": "contact"}, "groups"),
        ({"groups": ("contact",)}, "groups"),
        ({"groups": {"contact": 1}}, "groups"),
        ({"groups": False}, "groups"),
        ({"groups": [1]}, "groups"),
        ({"groups": [""]}, "groups"),
        ({"groups": ["Contact"]}, "groups"),
        ({"groups": ["contact\n"]}, "groups"),
        ({"groups": ["x" * 65]}, "groups"),
        ({"groups": ["contact", "foto", "contact"]}, "groups"),
        ({"groups": [f"g{n}" for n in range(16)]}, "groups"),
    ],
)
def test_refused_with_category_and_key(change, key):
    """One changed key each; None takes the key away. The unchanged table is accepted."""
    assert parse_categories({"categories": {"kindpakket": GOOD}})
    table = {name: value for name, value in (GOOD | change).items() if value is not None}
    with pytest.raises(InvalidPolicy) as refusal:
        parse_categories({"categories": {"kindpakket": table}})
    assert str(refusal.value).startswith(f"category kindpakket, key {key!r}: ")


@pytest.mark.parametrize("count", [0, 1, 2, 15])
def test_field_groups_keep_their_order_with_and_without_a_duty(count):
    """ER5: the first has number 1, so the order is kept."""
    groups = [f"g{n}" for n in reversed(range(count))]
    for table in (GOOD, {"purposes": ["inzage"]}):
        parsed = parse_categories({"categories": {"proef": table | {"groups": groups}}})
        assert parsed["proef"].groups == tuple(groups)
    assert categories()["nieuwsbrief"].groups == ()


@pytest.mark.parametrize("name", ["a", "kind-pakket_2", "0", "x" * 64])
def test_good_names(name):
    assert list(parse_categories({"categories": {name: GOOD}})) == [name]


@pytest.mark.parametrize("name", ["", "Kindpakket", "kind pakket", "kind.pakket", "é", "x" * 65, 7])
def test_bad_names(name):
    with pytest.raises(InvalidPolicy, match="lower-case letters"):
        parse_categories({"categories": {name: GOOD}})


def test_a_name_may_not_end_in_a_line_break():
    with pytest.raises(InvalidPolicy, match="lower-case letters"):
        parse_categories({"categories": {"kindpakket\n": GOOD}})


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"categories": []},
        {"categories": {"kindpakket": "8.1.7"}},
        {"categories": {}, "version": 1},
        {"kindpakket": GOOD},
    ],
)
def test_a_document_of_another_shape_is_refused(document):
    with pytest.raises(InvalidPolicy, match="categor"):
        parse_categories(document)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["2020", "8.1.7", "1.1.2", "eigenschap", "afgehandeld", "inzage"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)
TABLES = st.dictionaries(st.sampled_from([*GOOD, "groups", "x"]), VALUES) | VALUES


@given(st.dictionaries(st.text(max_size=5) | st.just("kindpakket"), TABLES, max_size=2))
def test_any_table_is_read_or_refused(tables):
    """Whatever stands in the file, the answer is categories or a PolicyError."""
    try:
        parsed = parse_categories({"categories": tables})
    except PolicyError:
        return
    assert list(parsed) == list(tables)
