"""The SDK: encrypted records, their keys and the operations on them."""
