"""The part of the SDK that decides and erases; see vault/sdk.py."""

from __future__ import annotations

from policy import Decision, Ground
from vault import erasing, erasing_group, erasing_person, reading
from vault.core import Core
from vault.erasing import Erasure
from vault.erasing_person import PersonErasure


class Erasing:
    """Decisions, erasures and holds of an open vault."""

    _core: Core

    def decide(
        self,
        pointer: str,
        ground: Ground,
        *,
        group: str | None = None,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> Decision:
        """Return what a request to erase would be answered today; changes nothing.

        Args:
            pointer: of the record.
            ground: of the request.
            group: name of a field group that is asked about alone; None for the whole record.
            actor: who asks.
            purpose: for which registered purpose.

        Raises:
            NotFound: no record has this pointer, or it came without this group.
            InvalidInput: its category has no such group.
            PurposeRefused: its category does not allow the purpose.
        """
        caller = self._core.caller(actor, purpose)
        if group is not None:
            return erasing_group.decide_group(self._core, pointer, group, ground, caller)
        return erasing.decide_erasure(self._core, pointer, ground, caller)

    def erase(
        self,
        pointer: str,
        ground: Ground,
        *,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> Erasure:
        """Erase a record where law and policy allow it; all its versions become unreadable at once.

        Raises:
            NotFound: no record has this pointer.
            Erased: it was erased before (D2); carries the index of the erasure entry.
            Refused: it may not be erased; carries the decision with its article. Nothing was
                changed.
            PurposeRefused: its category does not allow the purpose.
            Incomplete: the destruction could not be confirmed (ER2).
        """
        return erasing.erase(self._core, pointer, ground, self._core.caller(actor, purpose))

    def decide_person(
        self,
        subject: str,
        ground: Ground,
        *,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> PersonErasure:
        """Return what a request to erase all of a subject's records would get; changes nothing.

        Raises:
            NotFound: no living record is about this subject.
            PurposeRefused: a record's category does not allow the purpose.
        """
        caller = self._core.caller(actor, purpose)
        return erasing_person.decide_person(self._core, subject, ground, caller)

    def erase_person(
        self,
        subject: str,
        ground: Ground,
        *,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> PersonErasure:
        """Erase every record of a subject that may be erased, in one epoch (ER4).

        Raises:
            NotFound: no living record is about this subject.
            PurposeRefused: a record's category does not allow the purpose; nothing was changed.
            Incomplete: a destruction could not be confirmed (ER2).
        """
        caller = self._core.caller(actor, purpose)
        return erasing_person.erase_person(self._core, subject, ground, caller)

    def erase_group(
        self,
        pointer: str,
        group: str,
        ground: Ground,
        *,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> Erasure:
        """Erase one field group of a record, in all its versions; the rest of it stays (ER5).

        No duty keeps an optional group, so neither a retention term nor its end is waited for.

        Raises:
            NotFound: no record has this pointer, or it came without this group.
            InvalidInput: its category has no such group.
            Erased: it was erased before, alone or with its record (D2).
            Refused: a hold lies on the record, or the ground takes a recorded decision first.
            PurposeRefused: its category does not allow the purpose.
            Incomplete: the destruction could not be confirmed (ER2).
        """
        caller = self._core.caller(actor, purpose)
        return erasing_group.erase_group(self._core, pointer, group, ground, caller)

    def erasure_index(self, pointer: str, group: str | None = None) -> int | None:
        """Return the leaf of the erasure entry of a record, or of one field group of it.

        Returns:
            None while there is none.

        Raises:
            NotFound: no record has this pointer, or it was erased and had no such group.
            InvalidInput: its category has no such group.
        """
        if group is not None:
            return erasing_group.erasure_index(self._core, pointer, group)
        return reading.erasure_index(self._core, pointer)

    def place_hold(
        self,
        pointer: str,
        reason: str,
        *,
        actor: str | None = None,
        purpose: str | None = None,
    ) -> None:
        """Place a legal hold, which no erasure passes (D3). Releasing it takes two persons (RS4).

        Raises:
            NotFound, Erased, InvalidInput, PurposeRefused: nothing was changed.
        """
        erasing.place_hold(self._core, pointer, reason, self._core.caller(actor, purpose))
