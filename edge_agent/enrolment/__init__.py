"""How a device gets its identity, keeps it, and shows it: key, certificate, authority."""
