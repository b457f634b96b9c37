"""The wire has one integer version; CHANGELOG's "Wire" heading dates each change."""

WIRE_VERSION = 1
LORIKEET_VERSION = "0.1.0"
