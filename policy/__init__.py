"""The law as pure functions: selection lists, retention dates and erasure decisions."""

from policy.category import RecordCategory, RetentionRule, parse_categories, retention_rule
from policy.decision import (
    RULE_VERSION,
    Decision,
    DecisionCode,
    ErasureFacts,
    Ground,
    Outcome,
    decide,
)
from policy.errors import InvalidPolicy, ListNotCarried, PolicyError
from policy.period import Period
from policy.retention import (
    Afleidingswijze,
    archiefactiedatum,
    check_afleidingswijze,
    is_expired,
)
from policy.selection_list import (
    Procestermijn,
    Result,
    SelectionList,
    Waardering,
    list_2020,
    list_for,
)

__all__ = [
    "RULE_VERSION",
    "Afleidingswijze",
    "Decision",
    "DecisionCode",
    "ErasureFacts",
    "Ground",
    "InvalidPolicy",
    "ListNotCarried",
    "Outcome",
    "Period",
    "PolicyError",
    "Procestermijn",
    "RecordCategory",
    "Result",
    "RetentionRule",
    "SelectionList",
    "Waardering",
    "archiefactiedatum",
    "check_afleidingswijze",
    "decide",
    "is_expired",
    "list_2020",
    "list_for",
    "parse_categories",
    "retention_rule",
]
