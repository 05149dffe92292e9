"""Escrow: the epoch key of a permanent tree, shared out among custodians (ST6, OP5, D2b, D5).

`shares` splits and combines, and writes the files that custodians keep; `attestation` is what a
custodian signs once a share is destroyed, and the count after which no key can come back. Nothing
here opens a database: the vault keeps the public part and decides when either is done.
"""
