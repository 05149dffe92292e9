"""Root key providers: who keeps the keys that wrap the epoch keys, one module for each.

`provider.py` holds the small interface. `open_provider` loads a provider's module, and the library
that it needs, when it is first used.
"""
