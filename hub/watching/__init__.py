"""What ``lorikeet-hub watch`` makes of the broker's messages. Pure: no I/O, no clock."""
