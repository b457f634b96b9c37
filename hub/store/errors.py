"""What can go wrong with the hub's database."""

from hub.errors import HubError


class StoreError(HubError):
    """The database can't be opened, written or understood."""
