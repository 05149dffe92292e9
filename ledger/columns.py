"""Column types that the rooms' tables share."""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer

# SQLite numbers its rows with 64-bit integers under the plain name only.
Int64 = BigInteger().with_variant(Integer, "sqlite")
