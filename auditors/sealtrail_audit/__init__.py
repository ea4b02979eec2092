"""Tools for analysts and auditors: SQL, events, lineage, the audit of the store."""
