"""Key nodes: 256 slots that are free, live, erased or permanent, sealed for one place."""

import hashlib
import os
from unittest.mock import patch

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from hypothesis import given
from hypothesis import strategies as st

from vault import Damaged
from vault.keynode import (
    FANOUT,
    NODE_BYTES,
    SlotState,
    empty_node,
    key_at,
    open_node,
    put_keys,
    seal_node,
    state_at,
    zero_slot,
)

TENANT, KEY = bytes(range(16)), bytes(range(32))


def test_the_primitive_is_that_of_rfc_8452():
    # RFC 8452, appendix C.2, the first case.
    key, nonce = bytes([1]) + bytes(31), bytes([3]) + bytes(11)
    assert AESGCMSIV(key).encrypt(nonce, b"", b"").hex() == "07f5f4169bbf55a8400cd47ea6fd400f"


def test_an_empty_node_is_free_everywhere():
    node = empty_node()
    assert len(node) == NODE_BYTES == 8_448
    assert {state_at(node, position) for position in range(FANOUT)} == {SlotState.FREE}
    assert {key_at(node, position) for position in range(FANOUT)} == {bytes(32)}


@given(st.data())
def test_keys_lie_where_they_were_put_and_nowhere_else(data):
    first = data.draw(st.integers(0, FANOUT - 1))
    count = data.draw(st.integers(1, FANOUT - first))
    keys = [os.urandom(32) for _ in range(count)]
    live = data.draw(st.sampled_from([SlotState.LIVE, SlotState.PERMANENT]))
    node = empty_node()
    put_keys(node, first, b"".join(keys), live)
    erased = data.draw(st.integers(first, first + count - 1))
    zero_slot(node, erased)
    for position in range(FANOUT):
        if position == erased:
            expected = SlotState.ERASED, bytes(32)
        elif first <= position < first + count:
            expected = live, keys[position - first]
        else:
            expected = SlotState.FREE, bytes(32)
        assert (state_at(node, position), key_at(node, position)) == expected
    assert keys[erased - first] not in node


@given(
    st.dictionaries(st.integers(0, 255), st.sampled_from(SlotState)),
    st.integers(0, 3),
    st.integers(0, 2**24 - 1),
)
def test_any_node_comes_back(states, level, index):
    node = empty_node()
    for position, state in states.items():
        node[position] = state
    sealed = seal_node(node, KEY, TENANT, level, index)
    assert len(sealed) == 12 + NODE_BYTES + 16
    assert open_node(sealed, KEY, TENANT, level, index) == node


def test_a_node_opens_in_its_own_place_only():
    sealed = seal_node(empty_node(), KEY, TENANT, 1, 7)
    places = {
        "level": (KEY, TENANT, 0, 7),
        "index": (KEY, TENANT, 1, 8),
        "tenant": (KEY, bytes(16), 1, 7),
        "key": (bytes(32), TENANT, 1, 7),
    }
    for key, tenant, level, index in places.values():
        with pytest.raises(Damaged, match=f"^key node {index} at level {level} does not open$"):
            open_node(sealed, key, tenant, level, index)
    assert open_node(sealed, KEY, TENANT, 1, 7) == empty_node()


def test_flipped_bytes_and_truncations_are_noticed():
    sealed = seal_node(empty_node(), KEY, TENANT, 0, 0)
    places = [*range(60), *range(60, len(sealed), 97), *range(len(sealed) - 16, len(sealed))]
    for place in places:
        changed = bytearray(sealed)
        changed[place] ^= 0x10
        with pytest.raises(Damaged):
            open_node(bytes(changed), KEY, TENANT, 0, 0)
    for size in (0, 1, 11, 12, 13, 28, 100, len(sealed) - 1):
        with pytest.raises(Damaged):
            open_node(sealed[:size], KEY, TENANT, 0, 0)
    print(f"{len(places)} flips and 8 truncations, 0 opened")


def test_something_sealed_rightly_that_is_no_node_is_refused():
    unknown_state = bytes([4]) + bytes(NODE_BYTES - 1)
    for plaintext in (b"", bytes(NODE_BYTES - 1), bytes(NODE_BYTES + 1), unknown_state):
        sealed = seal_node(plaintext, KEY, TENANT, 0, 3)
        with pytest.raises(Damaged, match="key node 3 at level 0 is not a node"):
            open_node(sealed, KEY, TENANT, 0, 3)


def test_the_same_node_is_sealed_differently_each_time():
    sealed = [seal_node(empty_node(), KEY, TENANT, 0, 0) for _ in range(200)]
    assert len({one[:12] for one in sealed}) == len({one[12:] for one in sealed}) == 200


def test_golden(golden):
    vector = golden("vault_keynode.json")
    node = empty_node()
    node[:4] = bytes.fromhex(vector["states"])
    for position, slot in enumerate(vector["slots"]):
        node[256 + 32 * position : 288 + 32 * position] = bytes.fromhex(slot)
    assert [state_at(node, position).name for position in range(5)] == [
        "LIVE",
        "ERASED",
        "FREE",
        "PERMANENT",
        "FREE",
    ]
    assert key_at(node, 3).hex() == vector["slots"][3]
    for case in vector["nodes"]:
        place = bytes.fromhex(vector["tenant"]), case["level"], case["index"]
        key = bytes.fromhex(case["key"])
        with patch("vault.keynode.os.urandom", return_value=bytes.fromhex(case["nonce"])):
            sealed = seal_node(node, key, *place)
        assert len(sealed) == case["sealed_bytes"]
        assert sealed[:44].hex() == case["first"]
        assert sealed[-16:].hex() == case["tag"]
        assert hashlib.sha256(sealed).hexdigest() == case["sha256"]
        assert open_node(sealed, key, *place) == node
