# The role of a vault at OpenBao or HashiCorp Vault: the policy of the token in `token_file`.
#
# It names the defaults of the options `mount` and `key`; change both here if you change them there.
# A path that ends in * covers /rotate, /config, /trim and /import as well, so it is the parameters
# that keep the vault from making a key that can be exported, backed up or imported. Nothing here
# reads transit/export, transit/backup or transit/datakey, and no path has "create": encrypting
# never makes a key.

# Ordinary records: make, rotate, and destroy.
path "transit/keys/datakluis-ordinary-*" {
  capabilities = ["read", "update", "delete"]
  allowed_parameters = {
    "type"                   = ["aes256-gcm96"]
    "min_decryption_version" = []
    "min_encryption_version" = []
    "min_available_version"  = []
    "deletion_allowed"       = []
  }
}

path "transit/encrypt/datakluis-ordinary-*" {
  capabilities = ["update"]
}

path "transit/decrypt/datakluis-ordinary-*" {
  capabilities = ["update"]
}

# Records that are kept for ever: make and rotate. Without their parameters /config changes nothing
# and /trim is an error, and without "delete" nothing is deleted.
path "transit/keys/datakluis-permanent-*" {
  capabilities = ["read", "update"]
  allowed_parameters = {
    "type" = ["aes256-gcm96"]
  }
}

path "transit/encrypt/datakluis-permanent-*" {
  capabilities = ["update"]
}

path "transit/decrypt/datakluis-permanent-*" {
  capabilities = ["update"]
}
