"""One module per schema revision; `vault.database.SCHEMA` names the newest."""
