"""What the tests of the SDK share."""

from anchor.evidence import Evidence
from anchor.verify import verify
from vault import Ground

CONSENT = Ground.CONSENT_WITHDRAWN
UNKNOWN = "aaaaaaaaaaaaaaaaaaaaaaaaaa"


def put(vault, payload=b"{}", *, category="nieuwsbrief", subject="999990019", **more):
    return vault.put(payload, category=category, subject=subject, **more)


def counts(rows):
    tables = ("record", "version", "subject", "act", "hold", "import", "bucket")
    found = {table: rows(f"SELECT count(*) FROM vault_{table}")[0][0] for table in tables}
    return found | {"pending": rows("SELECT count(*) FROM ledger_pending")[0][0]}


def steps_of(evidence, trust):
    report = verify(Evidence.parse(evidence.format()), trust)
    return {step.step: step.state for step in report.steps}
